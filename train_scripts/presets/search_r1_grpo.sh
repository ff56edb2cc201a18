# Qwen2.5-7B base on 8 GPUs of one machine, GRPO: Search-R1's scripts for NQ + HotpotQA (v0.2), KL as a loss.
MODEL=Qwen/Qwen2.5-7B
RECIPES=(search_r1)
COMMON_FLAGS=(
    --device cuda
    --actor.num_nodes 1 --actor.num_gpus_per_node 8 --ref.num_nodes 1 --ref.num_gpus_per_node 8
    --vllm.num_engines 8 --vllm.tensor_parallel_size 1
    # 512 questions x 5 samples; published mini-batches are 256 questions
    --rollout.batch_size 512 --rollout.n_samples_per_prompt 5 --train.batch_size 1280
    --rollout.temperature 1.0 --rollout.top_p 1.0 --train.num_episodes 15
    --algo.advantage.estimator group_norm --algo.kl.use_loss --algo.kl.estimator k3 --algo.kl.init_coef 0.001
    --actor.adam.lr 1e-6 --actor.lr_warmup_ratio 0.285 --actor.eps_clip 0.2 --ckpt.save_steps 100
    --vllm.gpu_memory_utilization 0.6 --vllm.enable_sleep --ds.enable_sleep --train.colocate_all
    --ds.zero_stage 2 --ds.param_dtype bf16 --ds.packing_samples --actor.gradient_checkpointing_enable
    --train.micro_batch_size 1 --rollout.micro_batch_size 1 --train.max_epochs 1
    --train.seed "$((SEED + 42))"
    --ckpt.max_num 3
)
