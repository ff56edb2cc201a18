# Qwen2.5-7B-Instruct with ReSearch's settings (its script and the paper's Table 4; the paper used 8 machines of 8 GPUs,
# one machine takes the same flags for longer). For the base model: --recipe research.base and its path.
MODEL=Qwen/Qwen2.5-7B-Instruct
RECIPES=(research.chat)
COMMON_FLAGS=(
    --device cuda
    --actor.num_nodes 1 --actor.num_gpus_per_node 8 --ref.num_nodes 1 --ref.num_gpus_per_node 8
    --vllm.num_engines 4 --vllm.tensor_parallel_size 2
    # 256 questions x 5 samples, one update
    --rollout.batch_size 256 --rollout.n_samples_per_prompt 5 --train.batch_size 1280
    --rollout.temperature 1.0 --rollout.top_p 1.0 --train.num_episodes 2
    --algo.advantage.estimator group_norm --algo.kl.use_loss --algo.kl.estimator k3 --algo.kl.init_coef 0.001
    --actor.adam.lr 1e-6 --actor.eps_clip 0.2 --ckpt.save_steps 10
    --vllm.gpu_memory_utilization 0.6 --vllm.enable_sleep --ds.enable_sleep --train.colocate_all
    --ds.zero_stage 2 --ds.param_dtype bf16 --ds.packing_samples --actor.gradient_checkpointing_enable
    --train.micro_batch_size 1 --rollout.micro_batch_size 1 --train.max_epochs 1
    --train.seed "$((SEED + 42))"
    --ckpt.max_num 3
)
