# The tiny world on two CPU cores: a 0.6 M parameter model that must search for facts about invented names.
# Settings measured for this world; see docs/architecture.md.
MODEL="$ROOT/data_prep/tiny/model"
RECIPES=(tiny.stage1 tiny.stage2)
COMMON_FLAGS=(
    # rollout: 8 questions x 8 samples; 96 questions make the 12 steps of stage 1, 600 the 75 of stage 2. Stage 1 has
    # done its work after 8: it does not look at what is asked, and further steps let the queries drift
    # (docs/architecture.md, "Stage 1 is short").
    --rollout.batch_size 8 --rollout.n_samples_per_prompt 8 --rollout.micro_batch_size 64
    --rollout.temperature 1.0 --rollout.top_p 1.0
    # one update per step
    --train.batch_size 64 --train.micro_batch_size 32 --train.max_epochs 1 --train.num_episodes 1
    --algo.advantage.estimator reinforce_baseline --algo.kl.init_coef 0
    # logs the distance between the engine's and the trainer's policy (vllm_kl)
    --algo.advantage.is_correction_level token
    --actor.adam.lr 7e-4 --actor.adam.betas 0.9 0.95 --actor.max_norm 1.0
    --actor.lr_scheduler constant_with_warmup --actor.lr_warmup_ratio 0.1
    --ds.zero_stage 2 --train.seed "$((SEED + 42))"
    --ckpt.save_steps 10 --ckpt.max_num 2
)
STAGE1_FLAGS=()
STAGE2_FLAGS=()
