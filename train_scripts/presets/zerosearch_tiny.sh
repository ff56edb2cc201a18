# ZeroSearch in the tiny world: the tiny preset with REINFORCE, as in its train_reinforce.sh (KL in the reward), against a
# tiny simulator that is fine-tuned and served here. The base is Search-R1's, whose exchange is the same to the byte.
source "$ROOT/train_scripts/presets/tiny.sh"
MODEL="$ROOT/runs/tiny_bases/search_r1"
TINY_PROTOCOL=zerosearch.tiny
RECIPES=(tiny.zerosearch)
START_SEARCH=start_tiny_simulator
NOISE=0:0.5 # the README's example; the paper's own are in presets/zerosearch.sh
DRY_RETRIEVER_URL="simulate:http://127.0.0.1:6001/v1?mode=short&noise=$NOISE"
COMMON_FLAGS+=(
    --algo.advantage.estimator reinforce --algo.kl.init_coef 1e-3 --train.colocate_actor_ref
    # REINFORCE has no baseline per question: with the tiny preset's 7e-4 the noise of the last steps, under which many
    # right searches earn nothing, drove the policy out of its format (F1 0.85 at step 24, 0.28 at step 75)
    --actor.adam.lr 3e-4
)
# Noise is a habit that a hundred updates teach; ZeroSearch's own rate is 1e-6, for models that can write already.
SIMULATOR_SFT_FLAGS=(
    --train.batch_size 64 --train.micro_batch_size 64 --train.max_epochs 3 --data.max_len 256
    --adam.lr 1e-3 --lr_warmup_ratio 0.05
)
