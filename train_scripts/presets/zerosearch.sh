# Qwen2.5-7B base with ZeroSearch's REINFORCE settings (train_reinforce.sh); the paper trained on 4 GPUs and served the
# simulator on 4 more. The search engine is a language model:
#   --retriever-url "simulate:http://HOST:6001/v1?mode=sft&noise=0:0.75"     (p_s:p_e of the paper for this model)
MODEL=Qwen/Qwen2.5-7B
RECIPES=(zerosearch)
DRY_RETRIEVER_URL="simulate:http://127.0.0.1:6001/v1?mode=sft&noise=0:0.75"
COMMON_FLAGS=(
    --device cuda
    --actor.num_nodes 1 --actor.num_gpus_per_node 4 --ref.num_nodes 1 --ref.num_gpus_per_node 4
    --vllm.num_engines 4 --vllm.tensor_parallel_size 1
    # 64 questions x 5 samples; published mini-batches are 256
    --rollout.batch_size 64 --rollout.n_samples_per_prompt 5 --train.batch_size 320
    --rollout.temperature 1.0 --rollout.top_p 1.0 --train.num_episodes 1
    --algo.advantage.estimator reinforce --algo.kl.init_coef 0.001
    --actor.adam.lr 1e-6 --actor.lr_warmup_ratio 0.95 --actor.eps_clip 0.2 --ckpt.save_steps 20
    --vllm.gpu_memory_utilization 0.6 --vllm.enable_sleep --ds.enable_sleep --train.colocate_all
    --ds.zero_stage 2 --ds.param_dtype bf16 --ds.packing_samples --actor.gradient_checkpointing_enable
    --train.micro_batch_size 1 --rollout.micro_batch_size 1 --train.max_epochs 1
    --train.seed "$((SEED + 42))"
    --ckpt.max_num 3
)
