# Qwen2.5-7B-Instruct with DeepResearcher's GRPO settings (train_grpo.sh) on 8 GPUs of one machine; the paper ran the
# tools on 50 further machines. Search and pages come from the web:
#   --retriever-url "web:serper" --browse pages:
MODEL=Qwen/Qwen2.5-7B-Instruct
RECIPES=(deep_researcher)
DRY_RETRIEVER_URL="web:serper"
COMMON_FLAGS=(
    --device cuda --browse pages:
    --actor.num_nodes 1 --actor.num_gpus_per_node 8 --ref.num_nodes 1 --ref.num_gpus_per_node 8
    --vllm.num_engines 8 --vllm.tensor_parallel_size 1
    # 256 questions x 16 samples, one update
    --rollout.batch_size 256 --rollout.n_samples_per_prompt 16 --train.batch_size 4096
    --rollout.temperature 1.0 --rollout.top_p 1.0 --train.num_episodes 1
    --algo.advantage.estimator group_norm --algo.kl.use_loss --algo.kl.estimator k3 --algo.kl.init_coef 0.001
    --actor.entropy_coef 0.001 --actor.adam.lr 1e-6 --actor.eps_clip 0.2 --ckpt.save_steps 1
    --vllm.gpu_memory_utilization 0.6 --vllm.enable_sleep --ds.enable_sleep --train.colocate_all
    --ds.zero_stage 2 --ds.param_dtype bf16 --ds.packing_samples --actor.gradient_checkpointing_enable
    --train.micro_batch_size 1 --rollout.micro_batch_size 1 --train.max_epochs 1
    --train.seed "$((SEED + 42))"
    --ckpt.max_num 3
)
