# Search-R1 in the tiny world: the tiny preset with GRPO, as in its train_grpo.sh (KL as a loss, k3), and exact match.
source "$ROOT/train_scripts/presets/tiny.sh"
MODEL="$ROOT/runs/tiny_bases/search_r1"
TINY_PROTOCOL=search_r1.tiny
RECIPES=(tiny.search_r1)
COMMON_FLAGS+=(
    --algo.advantage.estimator group_norm --algo.kl.use_loss --algo.kl.estimator k3 --algo.kl.init_coef 1e-3
    --train.colocate_actor_ref
)
