# DeepResearcher in the tiny world: the tiny preset with its GRPO settings (KL as a loss, k3; entropy bonus).
source "$ROOT/train_scripts/presets/tiny.sh"
MODEL="$ROOT/runs/tiny_bases/deep_researcher"
TINY_PROTOCOL=deep_researcher.tiny
RECIPES=(tiny.deep_researcher)
COMMON_FLAGS+=(
    --algo.advantage.estimator group_norm --algo.kl.use_loss --algo.kl.estimator k3 --algo.kl.init_coef 1e-3
    --train.colocate_actor_ref --actor.entropy_coef 1e-3
)
