# Llama-3.1-8B-Instruct on 7 GPUs of one machine, with the settings of R1-Searcher's two scripts for this model.
MODEL=meta-llama/Llama-3.1-8B-Instruct
RECIPES=(r1_searcher.chat.stage1 r1_searcher.chat.stage2)
COMMON_FLAGS=(
    --device cuda
    # 5 GPUs hold actor and reference, one engine with tensor parallelism 2 rolls out
    --actor.num_nodes 1 --actor.num_gpus_per_node 5 --ref.num_nodes 1 --ref.num_gpus_per_node 5
    --train.colocate_actor_ref
    --vllm.num_engines 1 --vllm.tensor_parallel_size 2 --vllm.gpu_memory_utilization 0.8
    --rollout.n_samples_per_prompt 16 --rollout.micro_batch_size 1
    --rollout.temperature 1.0 --rollout.top_p 0.95
    --train.micro_batch_size 1 --train.max_epochs 1 --train.num_episodes 1
    --algo.advantage.gamma 1.0 --algo.kl.init_coef 1e-4
    --actor.adam.lr 2e-6 --actor.lr_warmup_ratio 0.0 --actor.eps_clip 0.2
    --ds.zero_stage 2 --ds.param_dtype bf16 --ds.packing_samples --actor.gradient_checkpointing_enable
    --train.seed "$((SEED + 42))"
    --ckpt.save_steps 10 --ckpt.max_num 3
)
# 15 questions x 16 samples and 60 episodes per update, then 65 x 16 and 260: 4 updates per rollout in both stages
STAGE1_FLAGS=(--rollout.batch_size 15 --train.batch_size 60 --algo.advantage.estimator group_norm)
STAGE2_FLAGS=(--rollout.batch_size 65 --train.batch_size 260 --algo.advantage.estimator reinforce_baseline)
