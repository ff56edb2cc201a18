# ZeroSearch in the tiny world: the tiny preset with REINFORCE, as in its train_reinforce.sh (KL in the reward).
source "$ROOT/train_scripts/presets/tiny.sh"
MODEL="$ROOT/runs/tiny_bases/zerosearch"
TINY_PROTOCOL=zerosearch.tiny
RECIPES=(tiny.zerosearch)
COMMON_FLAGS+=(
    --algo.advantage.estimator reinforce --algo.kl.init_coef 1e-3 --train.colocate_actor_ref
)
