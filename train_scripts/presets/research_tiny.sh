# ReSearch in the tiny world: the tiny preset with its GRPO settings (KL as a loss, k3).
source "$ROOT/train_scripts/presets/tiny.sh"
MODEL="$ROOT/runs/tiny_bases/research"
TINY_PROTOCOL=research.tiny
RECIPES=(tiny.research)
COMMON_FLAGS+=(
    --algo.advantage.estimator group_norm --algo.kl.use_loss --algo.kl.estimator k3 --algo.kl.init_coef 1e-3
    --train.colocate_actor_ref
)
