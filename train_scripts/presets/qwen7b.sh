# Qwen2.5-7B base on 8 GPUs of one machine, with the settings of R1-Searcher's script for this model.
# Its code trains this model in one stage, with the stage-2 style reward; two stages are the paper's schedule.
MODEL=Qwen/Qwen2.5-7B
RECIPES=(r1_searcher.base.stage1 r1_searcher.base.stage2)
COMMON_FLAGS=(
    --device cuda
    # 4 GPUs train, one engine with tensor parallelism 2 rolls out; KL is 0, so there is no reference model
    --actor.num_nodes 1 --actor.num_gpus_per_node 4
    --vllm.num_engines 1 --vllm.tensor_parallel_size 2 --vllm.gpu_memory_utilization 0.8
    # 64 questions x 16 samples; 256 episodes per update, so 4 updates per rollout
    --rollout.batch_size 64 --rollout.n_samples_per_prompt 16 --rollout.micro_batch_size 1
    --rollout.temperature 1.0 --rollout.top_p 0.95
    --train.batch_size 256 --train.micro_batch_size 1 --train.max_epochs 1 --train.num_episodes 1
    --algo.advantage.estimator reinforce_baseline --algo.advantage.gamma 1.0 --algo.kl.init_coef 0
    --actor.adam.lr 2e-6 --actor.lr_warmup_ratio 0.0 --actor.eps_clip 0.2
    --ds.zero_stage 2 --ds.param_dtype bf16 --ds.packing_samples --actor.gradient_checkpointing_enable
    --train.seed "$((SEED + 42))"
    --ckpt.save_steps 10 --ckpt.max_num 3
)
STAGE1_FLAGS=()
STAGE2_FLAGS=()
