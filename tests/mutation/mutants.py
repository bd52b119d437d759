"""The list of mutants: what each changes in the source, and which tests notice it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Mutant:
    """One fault: a text that a source file holds exactly once, and what to put in its place."""

    name: str
    file: str
    """Path of the source file from the root of the repository."""
    text: str
    replacement: str
    tests: tuple[str, ...]
    """Paths, from `tests/`, of the files whose tests have to fail."""

    def applied_to(self, source: str) -> str:
        """The source with the fault in it.

        Raises:
            ValueError: if the text does not stand in it exactly once.
        """
        if (count := source.count(self.text)) != 1:
            raise ValueError(f"{self.name}: {self.file} holds {self.text!r} {count} times instead of once")
        return source.replace(self.text, self.replacement)


def _mutants(file: str, *tests: str, **faults: tuple[str, str]) -> Iterator[Mutant]:
    """The mutants of one file, named after it, that are all noticed by the same tests."""
    for name, (text, replacement) in faults.items():
        yield Mutant(f"{Path(file).stem}.{name}", file, text, replacement, tests)


SEARCH_LOOPS = ("workloads/inversion/test_row_search.py", "workloads/attacks/test_gmi_golden.py")
MUTANTS: tuple[Mutant, ...] = (
    # Strict numerics
    *_mutants(
        "workloads/core/numerics.py",
        "orchestrator/planning/test_strict_numerics.py",
        lost_gpu=("(self.gpu or self.processor) if gpus", "self.processor if gpus"),
        other_cores=('"cores": self.cores, "GPUs"', '"cores": here["cores"], "GPUs"'),
    ),
    *_mutants(
        "workloads/core/numerics.py",
        "workloads/core/test_numerics.py",
        fused_attention=("else (False, False, False)", "else before.fused_attention"),
    ),
    *_mutants(
        "orchestrator/planning/plan.py",
        "orchestrator/planning/test_strict_numerics.py",
        threads_of_no_key=("**resources.model_dump()}", "}"),
    ),
    # Stages of networks
    *_mutants(
        "workloads/models/base.py",
        "contracts/test_training_steps.py",
        output_in_place=("keep(layer, output.clone())", "keep(layer, output)"),
        layers_never_run=("stage[-1] if isinstance(stage, JoinedLayers) else stage", "stage"),
    ),
    # Training
    *_mutants(
        "workloads/training/loop.py",
        "workloads/training/test_training.py",
        dropout=('self._context.global_draws("layers", self.epoch)', 'self._context.global_draws("layers")'),
        shuffle=("torch.randperm(len(self._images), generator=draws)", "torch.arange(len(self._images))"),
        smoothing=("targets + smoothing / classes", "targets + smoothing"),
        infinite_loss=("not math.isfinite(loss)", "math.isnan(loss)"),
        first_best=('accuracy > self._best["accuracy"]', 'accuracy >= self._best["accuracy"]'),
        single_image=("len(batches[-1]) == 1", "len(batches[-1]) == 0"),
        row_weight=("1 / max(len(indices), 1)", "1 / self._config.batch_size"),
        mean_loss=('{"train_loss": total / sum(rows)', '{"train_loss": total / len(rows)'),
        resumed_best=('self.epoch, self._best = saved["epoch"], saved["best"]', 'self.epoch = saved["epoch"]'),
        resumed_moments=('{**self._optimizer.state_dict(), "state": slots}', "self._optimizer.state_dict()"),
        epoch_of_draws=('"augment", self.epoch)', '"augment")'),
    ),
    *_mutants(
        "workloads/training/step.py",
        "workloads/training/test_training.py",
        stale_gradients=("self._optimizer.zero_grad(set_to_none=True)", "None"),
        clip=(
            "self._model.parameters(), self._config.clip_norm",
            "self._model.parameters(), 2 * self._config.clip_norm",
        ),
    ),
    *_mutants(
        "workloads/training/step.py",
        "workloads/training/test_step.py",
        recorded_too_early=("<= STEPS_BEFORE_RECORDING", "< STEPS_BEFORE_RECORDING"),
        any_defense=("all(defense.capturable for", "any(defense.capturable for"),
    ),
    *_mutants(
        "workloads/defenses/random_erasing.py",
        "contracts/test_device_traffic.py",
        host_waits=('fits.device.type == "cpu" and bool(fits.all())', "bool(fits.all())"),
    ),
    *_mutants(
        "workloads/training/average.py",
        "workloads/training/test_training.py",
        decay=("1 - self._decay", "self._decay"),
    ),
    *_mutants(
        "workloads/recipes/optimization.py",
        "workloads/recipes/test_optimization.py",
        "workloads/training/test_training.py",
        warm_up=("if epoch < config.warmup_epochs", "if epoch <= config.warmup_epochs"),
        milestone=("epoch >= fraction * config.epochs", "epoch > fraction * config.epochs"),
        cosine=("0.5 * (1 + math.cos", "0.5 * (1 - math.cos"),
        one_cycle_peak=("ONE_CYCLE_WARM_UP = 0.3", "ONE_CYCLE_WARM_UP = 0.25"),
        one_cycle_steps=("_one_cycle((epoch + within) / config.epochs)", "_one_cycle(epoch / config.epochs)"),
        protocol=('"momentum": 0.9, "weight_decay": 1e-4', '"momentum": 0.9, "weight_decay": 5e-4'),
    ),
    *_mutants(
        "workloads/recipes/augmentation.py",
        "workloads/recipes/test_augmentation.py",
        flip=("images.flip(-1)", "images.flip(-2)"),
        shift=("torch.randint(2 * shift + 1,", "torch.randint(2 * shift,"),
        area=("(low + (high - low) * area).sqrt()", "(low + (high - low) * area)"),
    ),
    *_mutants(
        "workloads/training/prediction.py",
        "workloads/training/test_training.py",
        "workloads/metrics/test_published_defects.py",
        unit_range=("div_(255)", "div_(256)"),
    ),
    # Attacks
    *_mutants(
        "workloads/inversion/optimizers.py",
        "workloads/attacks/test_gmi_golden.py",
        "workloads/attacks/test_kedmi_golden.py",
        "workloads/attacks/test_vmi.py",
        "workloads/attacks/test_ppa.py",
        nesterov=("(1 + self.momentum) * velocity[name]", "self.momentum * velocity[name]"),
        momentum=("variable - self.lr * velocity[name]", "variable - velocity[name]"),
        bias_correction=("(1 - beta2 ** (step + 1)) ** 0.5", "(1 - beta2 ** (step + 1))"),
        second_moment=("(1 - beta2) * gradient.square()", "(1 - beta2) * gradient.abs()"),
        milestone=("step >= milestone", "step > milestone"),
    ),
    *_mutants(
        "workloads/inversion/gradient_search.py",
        *SEARCH_LOOPS,
        "workloads/attacks/test_erasing_aware.py",
        batch_reference=("losses.sum() / self.descent.batch_reference", "losses.mean()"),
        lenses=("self.descent.identity_weight / max(len(access.lenses), 1)", "self.descent.identity_weight"),
        views=('draws("view", number, images=count).at(step.counter)', 'draws("view", number, images=count)'),
    ),
    *_mutants(
        "workloads/inversion/row_search.py",
        *SEARCH_LOOPS,
        last_step=("self._step == attack.config.steps", "self._step > attack.config.steps"),
        latent_steps=("self.latent_steps += steps", "self.latent_steps += self._step * len(done)"),
        queries_in_vain=("(self._step * len(done) - steps)", "0"),
        next_chunk=('{"chunk": self._chunk + 1}', '{"chunk": self._chunk}'),
        resumed_queries=('self._access.target.queries = saved["queries"]', "pass"),
        diverged=("(~losses.isfinite()).sum()", "losses.isinf().sum()"),
    ),
    *_mutants(
        "workloads/inversion/rows.py",
        *SEARCH_LOOPS,
        "workloads/attacks/test_kedmi_golden.py",
        draws_of_images=(
            "torch.arange(images, device=self.identities.device).repeat(len(self))",
            "torch.zeros(images * len(self), dtype=torch.int64)",
        ),
        side_by_side=("self.restarts.repeat_interleave(count)", "self.restarts.repeat(count)"),
        frozen=("torch.where(rows.view(-1, *(1,) * (new.ndim - 1)), old, new)", "new"),
    ),
    *_mutants(
        "workloads/inversion/early_stop.py",
        *SEARCH_LOOPS,
        window=("(step + 1) % self.window", "step % self.window"),
        first_window=("step + 1 == self.window", "step == self.window"),
    ),
    *_mutants(
        "workloads/inversion/selection.py",
        *SEARCH_LOOPS,
        "workloads/attacks/test_ppa.py",
        keep=("topk(min(keep, len(rows)))", "topk(1)"),
        mean_of_views=("return total / views", "return total"),
    ),
    *_mutants(
        "workloads/inversion/latent_pool.py",
        "workloads/attacks/test_ppa.py",
        "workloads/attacks/test_mirror.py",
        rank_of_restart=('["candidates"][rows.identities, rows.restarts]', '["candidates"][rows.identities, 0]'),
    ),
    *_mutants(
        "workloads/inversion/memory_batches.py",
        *SEARCH_LOOPS,
        rows_of_probe=("int(self._budget * rows / max(", "int(self._budget / max("),
    ),
    *_mutants(
        "workloads/inversion/objective.py",
        "workloads/attacks/test_plgmi_and_lokt.py",
        mean_of_surrogates=(
            "for surrogate in access.surrogates]).mean(0)",
            "for surrogate in access.surrogates]).sum(0)",
        ),
    ),
    *_mutants(
        "workloads/inversion/p_space.py",
        "workloads/attacks/test_mirror.py",
        slope=("F.leaky_relu(styles, 1 / self.slope)", "F.leaky_relu(styles, self.slope)"),
        spread=("correction=0", "correction=1"),
    ),
    *_mutants(
        "workloads/inversion/genetic_operators.py",
        "workloads/attacks/test_mirror.py",
        one_way=("(2 * draws.amount - 1)", "draws.amount"),
        fitter_parent=(
            "first_weight / (first_weight + second_weight)",
            "second_weight / (first_weight + second_weight)",
        ),
        elite=("descending=True", "descending=False"),
    ),
    *_mutants(
        "workloads/inversion/l1_ball.py",
        "workloads/attacks/test_ifgmi.py",
        threshold=("excess.gather(1, spread - 1) / spread", "excess.gather(1, spread - 1)"),
    ),
    *_mutants(
        "workloads/inversion/variational.py",
        "workloads/attacks/test_vmi.py",
        divergence=("(2 * log_std).exp()", "log_std.exp()"),
        volume=("log_volume + log_scale.sum(1)", "log_volume - log_scale.sum(1)"),
    ),
    *_mutants(
        "workloads/inversion/soft_actor_critic.py",
        "workloads/attacks/test_rlbmi.py",
        pessimism=("for name in self.critics]).amin(0)", "for name in self.critics]).amax(0)"),
        density=("-noise.square() / 2 - log_std", "-noise.square() / 2 + log_std"),
    ),
    *_mutants(
        "workloads/observation/losses.py",
        "workloads/attacks/test_plgmi_golden.py",
        "workloads/attacks/test_ppa.py",
        margin=("others.amax(1) + logit", "logits.amax(1) + logit"),
        poincare=("POINCARE_RIM = 1e-4", "POINCARE_RIM = 1e-5"),
    ),
    *_mutants(
        "workloads/observation/views.py",
        "workloads/observation/test_views.py",
        crop_inside=("(2 * numbers[:, 2:4] - 1) * (1 - sides)", "(2 * numbers[:, 2:4] - 1)"),
        brightness=("1 + (2 * numbers[:, column] - 1) * spread", "1 + numbers[:, column] * spread"),
    ),
    *_mutants(
        "workloads/observation/oracles.py",
        *SEARCH_LOOPS,
        "workloads/attacks/test_brepmi_golden.py",
        queries=("self.queries += len(images)  # once", "self.queries += 1  # once"),
    ),
    *_mutants(
        "workloads/attacks/gmi.py",
        "workloads/attacks/test_gmi_golden.py",
        realism=("return -access.required_prior.realism(images)", "return access.required_prior.realism(images)"),
        box=("variable.clamp(-bound, bound)", "variable"),
    ),
    *_mutants(
        "workloads/attacks/kedmi.py",
        "workloads/attacks/test_kedmi_golden.py",
        deviation=('(variables["log_variance"] / 2).exp()', 'variables["log_variance"].exp()'),
        first_variance=("torch.ones_like(mean)", "torch.zeros_like(mean)"),
    ),
    *_mutants(
        "workloads/attacks/brepmi.py",
        "workloads/attacks/test_brepmi_golden.py",
        repulsion=("(inside - 1) / 2", "inside / 2"),
        step_length=("(radius / 3)", "(radius / 2)"),
        patience=(">= self.config.patience", "> self.config.patience"),
    ),
    *_mutants(
        "workloads/attacks/vmi.py",
        "workloads/attacks/test_vmi.py",
        divergence=("self.config.kl_weight * divergence", "divergence"),
    ),
    *_mutants(
        "workloads/attacks/lomma.py",
        "workloads/attacks/test_lomma_golden.py",
        "workloads/attacks/test_lomma.py",
        features=(".square().mean(1)", ".square().sum(1)"),
    ),
    *_mutants(
        "workloads/attacks/rlbmi.py",
        "workloads/attacks/test_rlbmi.py",
        margin=("scores.scatter(1, identities, 0.0).amax(1)", "scores.amax(1)"),
        best_so_far=('confidence >= best["confidence"]', 'confidence <= best["confidence"]'),
    ),
    *_mutants(
        "workloads/attacks/mirror.py",
        "workloads/attacks/test_mirror.py",
        ramp=("(step + 1) / self.config.steps", "step / self.config.steps"),
        best_step=('compared < kept["loss"]', 'compared > kept["loss"]'),
    ),
    *_mutants(
        "workloads/attacks/erasing_aware.py",
        "workloads/attacks/test_erasing_aware.py",
        draws=("(boxes,) * self.config.draws", "(boxes,)"),
        original_scale=("draws=draws) * std + mean", "draws=draws)"),
    ),
    # Metrics
    *_mutants(
        "workloads/metrics/attack_accuracy.py",
        "workloads/metrics/test_metrics.py",
        fewest_classes=("FEWEST_CLASSES_FOR_TOP5 = 11", "FEWEST_CLASSES_FOR_TOP5 = 10"),
        top_5=("k=5)", "k=4)"),
    ),
    *_mutants(
        "workloads/metrics/intervals.py",
        "workloads/metrics/test_intervals.py",
        ninety_percent=("1.959963984540054", "1.644853626951473"),
        ratio=("sums - mean * sizes", "sums / sizes - mean"),
        wilson=("z**2 / (4 * n**2)", "z**2 / (4 * n)"),
        logarithm=("mean * math.exp(-half / mean)", "mean - half"),
        degrees=("special.stdtrit(count - 1, 0.975) *", "special.stdtrit(count, 0.975) *"),
    ),
    *_mutants(
        "workloads/metrics/correlated_trials.py",
        "workloads/metrics/test_intervals.py",
        one_tail=("lower + other_above", "lower"),
        other_tail=("upper + other_below", "upper"),
        no_correlation=("np.where(correlation == 1, alone, mixed)", "independent"),
        half_of_the_outcome=("tail - itself / 2", "tail"),
        likelihood_of_the_share=(
            "self._log_weights + self._log_likelihood(of_groups) / 2",
            "self._log_likelihood(of_groups) / 2",
        ),
    ),
    *_mutants(
        "orchestrator/statistics/paired.py",
        "orchestrator/statistics/test_paired.py",
        seeds=("2 * (pooled - within) / count", "0 * (pooled - within) / count"),
        simultaneous=(
            "level = _simultaneous_level(changes, [draw.beyond for draw in draws], squared)",
            "level = LEVEL",
        ),
        certain=("(smallest_step / (units + 2)) ** 2", "0"),
        calm=("np.where(unusual, alone, between.mean())", "np.where(unusual, between.mean(), between.mean())"),
    ),
    *_mutants(
        "workloads/metrics/base.py",
        "workloads/metrics/test_metrics.py",
        nearest=("squared.min(1)", "squared.max(1)"),
    ),
    *_mutants(
        "workloads/metrics/base.py",
        "orchestrator/spec/test_broken_specs.py",
        kept=("attack.keep < needed", "attack.keep <= needed"),
        training_images=("training_images[fewest] < needed", "training_images[fewest] < needed - 1"),
    ),
    *_mutants(
        "workloads/metrics/prdc.py",
        "workloads/metrics/test_set_metrics.py",
        neighbour=("kthvalue(k + 1, dim=1)", "kthvalue(k, dim=1)"),
        density=("(k * len(reconstructed))", "(k * len(private))"),
        recall=("distances <= reconstructed_radii[None]", "inside"),
    ),
    *_mutants(
        "workloads/metrics/fid.py",
        "workloads/metrics/test_set_metrics.py",
        joint=("- 2 * joint", "- joint"),
        factor=("(times.sum() - 1)", "times.sum()"),
    ),
    *_mutants(
        "workloads/metrics/psnr.py",
        "workloads/metrics/test_set_metrics.py",
        decibel=("-10 * error", "-20 * error"),
    ),
    *_mutants(
        "workloads/metrics/ssim.py",
        "workloads/metrics/test_set_metrics.py",
        range=("data_range=1.0", "data_range=255.0"),
    ),
    *_mutants(
        "workloads/metrics/perceptual_distance.py",
        "workloads/metrics/test_feature_distances.py",
        channels=(".square().sum(1).mean((1, 2))", ".square().mean(1).mean((1, 2))"),
    ),
    *_mutants(
        "workloads/metrics/delta_face.py",
        "workloads/metrics/test_feature_distances.py",
        unit_length=("F.normalize(evidence.features)", "evidence.features"),
    ),
    *_mutants(
        "workloads/metrics/trait_recovery.py",
        "workloads/metrics/test_trait_recovery.py",
        variance=("truth.var(correction=0)", "truth.var(correction=1)"),
    ),
    *_mutants(
        "workloads/metrics/feature_space.py",
        "workloads/metrics/test_feature_space.py",
        ratio=("to_private / to_erased", "to_erased / to_private"),
    ),
    *_mutants(
        "workloads/metrics/geometry.py",
        "workloads/metrics/test_geometry.py",
        corner=("if side >= 0:", "if side < 0:"),
        union=("(sum(areas) - shared)", "sum(areas)"),
    ),
    *_mutants(
        "workloads/metrics/knowledge_extraction.py",
        "workloads/metrics/test_knowledge_extraction.py",
        numbering=("attacked[numbers] == subset.identities", "numbers == subset.identities"),
    ),
    # Store and ledger
    *_mutants(
        "orchestrator/store/artifacts.py",
        "orchestrator/store/test_artifacts.py",
        "orchestrator/test_sweep.py",
        digest_of_file=("if sha256 != file.sha256:", "if len(sha256) != len(file.sha256):"),
        digest_of_json=("hexdigest() != manifest.files[name].sha256", 'hexdigest() == ""'),
        digest_of_artifact=('f"{name} {file.sha256}\\n"', 'f"{name}\\n"'),
        checkpoint=("self._delete_checkpoint(key)\n", "pass\n"),
        set_aside=("self._files.move_folder(_folder(key), target)", "pass"),
    ),
    *_mutants(
        "orchestrator/store/ledger.py",
        "orchestrator/store/test_ledger.py",
        "orchestrator/test_sweep.py",
        torn_line=('tail.rfind(b"\\n") + 1', 'tail.rfind(b"\\n")'),
        unfinished_line=('if not line.endswith(b"\\n"):', "if not line:"),
        recovered_job=('self.jobs_failed.pop(event["key"], None)', "pass"),
        retried_job=('case "job_failed" if event["final"]:', 'case "job_failed":'),
        first_start=('self.started_at or event["time"]', 'event["time"]'),
        second_writer=("fcntl.LOCK_EX | fcntl.LOCK_NB", "fcntl.LOCK_SH | fcntl.LOCK_NB"),
    ),
    # Search
    *_mutants(
        "orchestrator/search/samplers/random.py",
        "orchestrator/planning/test_search.py",
        index=('f"{self._config.seed}/{index}"', 'f"{self._config.seed}"'),
        last_point=("index >= self._config.points", "index > self._config.points"),
        logarithm=("math.exp(draws.uniform(math.log(low), math.log(high)))", "draws.uniform(low, high)"),
    ),
    *_mutants(
        "orchestrator/search/pareto.py",
        "orchestrator/search/test_pareto.py",
        equal_points=("max(gains) > 0", "max(gains) >= 0"),
        nowhere_worse=("min(gains) >= 0", "min(gains) > 0"),
        staircase=("reached = max(reached, second)", "reached = second"),
    ),
    *_mutants(
        "orchestrator/planning/search.py",
        "orchestrator/planning/test_search.py",
        last_remembered=("max(points, default=0) + 1", "max(points, default=0)"),
        repeated_point=("if trial.id not in self._trials]", "if True]"),
        comes_next=("self._waiting.insert(0, trial)", "self._waiting.append(trial)"),
    ),
    *_mutants(
        "orchestrator/search/samplers/tpe.py",
        "orchestrator/planning/test_search.py",
        index=('f"{self._config.seed}/{index}"', 'f"{self._config.seed}"'),
        direction=('objective.goal == "max"', 'objective.goal == "min"'),
    ),
    # Spec
    *_mutants(
        "orchestrator/search/space.py",
        "orchestrator/spec/test_broken_specs.py",
        "orchestrator/planning/test_search.py",
        empty_range=("if self.low >= self.high:", "if self.low > self.high:"),
        one_integer=("if self.low > self.high:", "if self.low >= self.high:"),
    ),
    *_mutants(
        "orchestrator/spec/apply.py",
        "orchestrator/cli/test_cli.py",
        baseline=('update={"defenses": ()}', "update={}"),
    ),
    *_mutants(
        "orchestrator/spec/checks/data.py",
        "orchestrator/spec/test_broken_specs.py",
        two_identities=('len(names["private"]) < 2', 'len(names["private"]) < 1'),
        shared_people=("len(kinds) == 1 or kinds <= CONTAINERS", "len(kinds) == 1"),
    ),
    *_mutants(
        "orchestrator/spec/yaml_source.py",
        "orchestrator/spec/test_broken_specs.py",
        levels=("len(path) > MOST_LEVELS", "len(path) > 100 * MOST_LEVELS"),
        nodes=("self._nodes > MOST_NODES", "self._nodes > 100 * MOST_NODES"),
        given_twice=("if key in result:", "if False:"),
    ),
    *_mutants(
        "workloads/core/config.py",
        "contracts/test_job_keys.py",
        "workloads/models/test_models.py",
        component_version=('fields | {"version": value.revision}', "fields"),
        location=("is_marked(field, Location) or", "False or"),
    ),
    *_mutants(
        "workloads/core/config.py",
        "workloads/core/test_plugins.py",
        package_in_keys=('fields |= {} if package is None else {"package": package}', "pass"),
    ),
    *_mutants(
        "workloads/core/plugins.py",
        "workloads/core/test_plugins.py",
        room=("if entry.group == GROUPS + room:", "if True:"),
        version=("if installed != wanted:", "if False:"),
    ),
    *_mutants(
        "orchestrator/executors/run_job.py",
        "orchestrator/executors/test_run_job.py",
        plugins=("    check_installed(job.plugins,", "    check_installed((),"),
    ),
    *_mutants(
        "workloads/core/cumulative_sum.py",
        "workloads/core/test_cumulative_sum.py",
        each_block_twice=("F.pad(until, (1, -1))", "F.pad(until, (0, 0))"),
        in_single_precision=("_by_blocks(values.double())", "_by_blocks(values.float())"),
    ),
    *_mutants(
        "workloads/core/philox.py",
        "workloads/core/test_philox.py",
        rounds=("ROUNDS = 10", "ROUNDS = 9"),
        zero=("(first + 1).double()", "first.double()"),
        half_a_circle=("2.0**-31 * torch.pi", "2.0**-32 * torch.pi"),
    ),
    *_mutants(
        "workloads/core/randomness.py",
        "workloads/core/test_philox.py",
        "workloads/inversion/test_row_search.py",
        shared=("rows=torch.zeros_like(self.rows)", "rows=self.rows"),
    ),
    *_mutants(
        "workloads/priors/recorded_updates.py",
        "workloads/priors/test_recorded_updates.py",
        queries=("self._target.queries += self._queries", "pass"),
        one_kind=("if kind not in self._recordings", "if not self._recordings"),
        not_put_back=("self._target.queries = queries", "pass"),
    ),
    *_mutants(
        "workloads/priors/residual.py",
        "workloads/priors/test_recorded_updates.py",
        elsewhere=("self.left.copy_(left)", "self.left = left"),
    ),
    *_mutants(
        "workloads/priors/tacgan.py",
        "workloads/priors/test_recorded_updates.py",
        one_phase=("return self._warmed_up\n", "return True\n"),
    ),
    # Planning and executors
    *_mutants(
        "orchestrator/placement/nodes.py",
        "orchestrator/placement/test_placement.py",
        last_cpu=("self.cpus >= request.cpus", "self.cpus > request.cpus"),
        last_part=("gpu.share_of(request) <= gpu.free", "gpu.share_of(request) < gpu.free"),
        by_memory=("max(min(request.gpus, 1.0), rounded_down(by_memory))", "min(request.gpus, 1.0)"),
        held_gpus=("or () if gpus is None else gpus", "or ()"),
        fullest=("return min(able, key=", "return max(able, key="),
    ),
    *_mutants(
        "orchestrator/placement/sizing.py",
        "orchestrator/placement/test_sizing.py",
        headroom=("HEADROOM * usage.gpu_memory_gb + CONTEXT_GB", "usage.gpu_memory_gb"),
        smallest=("smallest = min(memories)", "smallest = max(memories)"),
        measured_first=(
            "if usage.gpu_memory_gb is not None:",
            "if usage.gpu_memory_gb is not None and not estimate_gb:",
        ),
        no_use_for_gpus=("if not needs.uses_gpu:", "if False:"),
        batch=("return DEFAULT_MEMORY_GB if self.memory_gb is None", "return 4.0 if self.memory_gb is None"),
    ),
    *_mutants(
        "orchestrator/executors/usage.py",
        "orchestrator/executors/test_usage.py",
        peak=('(PROCESS / "clear_refs").write_text(RESET_PEAK, encoding="ascii")', "pass"),
        shared_pages=('kibibytes["VmHWM"] - shared', 'kibibytes["VmHWM"]'),
        context=("share - CONTEXT_GB / total_gb", "share"),
    ),
    *_mutants(
        "orchestrator/executors/failures.py",
        "orchestrator/executors/test_failures.py",
        "orchestrator/executors/test_broker.py",
        gpu_memory_is_memory=(
            '        return "gpu memory"\n    if isinstance',
            '        return "memory"\n    if isinstance',
        ),
        alone_twice=("0 < self.request.gpus < 1", "0 < self.request.gpus"),
        lost_worker=("MOST_LOST_WORKERS = 5", "MOST_LOST_WORKERS = 0"),
    ),
    *_mutants(
        "orchestrator/planning/plan.py",
        "contracts/test_job_keys.py",
        "orchestrator/test_sweep.py",
        training_seed=("seed=self._trial.seed", "seed=0"),
    ),
    *_mutants(
        "orchestrator/planning/plan.py",
        "orchestrator/planning/test_estimates.py",
        shape_of_inputs=('"inputs": dict(input_shapes)})[:16]', '"inputs": {}})[:16]'),
        shape_of_fractions=("return None if isinstance(value, float) else value", "return value"),
    ),
    *_mutants(
        "orchestrator/executors/inline.py",
        "orchestrator/test_sweep.py",
        failed_input=("if not all(map(recorder.is_done, job.inputs.values())):", "if False:"),
    ),
    *_mutants(
        "orchestrator/executors/recorder.py",
        "orchestrator/cli/test_cli.py",
        "orchestrator/test_sweep.py",
        cached=("self._cached.add(key)", "pass"),
        failed_for_good=("cause=cause, final=True", "cause=cause, final=False"),
    ),
    *_mutants(
        "orchestrator/executors/run_job.py",
        "orchestrator/executors/test_run_job.py",
        changed_data=("if dataset.digest() != data.digest:", "if False:"),
    ),
    *_mutants(
        "orchestrator/executors/ray/broker.py",
        "orchestrator/executors/test_cluster.py",
        look_ahead=("if self._pool.has_room(self._sizer.size(job).request):", "if False:"),
    ),
    *_mutants(
        "orchestrator/results/comparison.py",
        "orchestrator/test_rerun.py",
        interval=('self.then["low"] <= self.now["value"]', 'self.then["low"] < self.now["value"]'),
    ),
    *_mutants(
        "orchestrator/results/trade_off.py",
        "orchestrator/reports/test_reports.py",
        "orchestrator/results/test_records.py",
        no_loss=("if not surely_lost:", "if denominator <= 0:"),
    ),
    *_mutants(
        "workloads/context.py",
        "workloads/training/test_training.py",
        resumed_history=('self._history = saved["history"]', "pass"),
    ),
    *_mutants(
        "workloads/datasets/reading/decoding.py",
        "workloads/datasets/test_decoding.py",
        depth=("values // 257", "values // 256"),
        transparent_value=("np.where(values == key, 0, 255)", "np.where(values == key, 255, 0)"),
        turned=("if orientation(image) != UPRIGHT:", "if False:"),
        digest_of_conversion=("hashlib.sha256(data).digest() + conversion_mark(data)", "hashlib.sha256(data).digest()"),
        plain_png=('and b"tRNS" not in data', 'or b"tRNS" not in data'),
    ),
    *_mutants(
        "workloads/datasets/image_folder.py",
        "workloads/datasets/test_image_folder.py",
        third_part=('if part in ("train", held_out):', "if True:"),
        held_out=("is_held_out = part == held_out if held_out else None", "is_held_out = None"),
    ),
    *_mutants(
        "workloads/datasets/parquet/dataset.py",
        "workloads/datasets/test_tables.py",
        order_of_integers=("return isinstance(item[0], str), item[0]", "return True, str(item[0])"),
        digest_of_order=("total.update(BY_NUMBER)", "pass"),
    ),
    *_mutants(
        "workloads/datasets/reading/copies.py",
        "workloads/datasets/test_census.py",
        too_far=(".bit_count() <= MOST_BITS", ".bit_count() <= 2 * MOST_BITS"),
        exact=("image.pixels == original.pixels", "False"),
    ),
    *_mutants(
        "workloads/datasets/reading/census.py",
        "workloads/datasets/test_census.py",
        size_in_digest=('f"{colour.size}".encode() + colour.tobytes()', "colour.tobytes()"),
        cap=("counts[part] <= most", "counts[part] < most"),
    ),
    *_mutants(
        "orchestrator/spec/checks/images.py",
        "orchestrator/spec/test_data_checks.py",
        leaks=("(leaks := exact_copies(public.used, private.used)):\n        message", "False:\n        message"),
        held_out_copies=("copies := exact_copies(held_out, trained)", "copies := exact_copies(trained, trained)"),
        bad_images=("if images.bad and not images.skips_bad:", "if False:"),
    ),
    *_mutants(
        "workloads/core/weights.py",
        "workloads/core/test_weights.py",
        not_finite=("not weight.isfinite().all()", "weight.isnan().all() and False"),
        lfs=("if stream.read(len(LFS_POINTER)) == LFS_POINTER:", "if False:"),
    ),
    *_mutants(
        "workloads/training/checkpoint_files.py",
        "workloads/training/test_checkpoint_files.py",
        changed_file=("if digest_of(file) != settings.checkpoint.digest:", "if False:"),
    ),
    *_mutants(
        "workloads/training/class_names.py",
        "workloads/training/test_checkpoint_files.py",
        order_of_outputs=("[classes.index(name) for name in names]", "list(range(len(names)))"),
    ),
    *_mutants(
        "orchestrator/planning/code.py",
        "orchestrator/test_changed_code.py",
        made_anew=("return {job.kind} if read is not None", "return {job.kind} if False and read is not None"),
        inputs=("self.changes(jobs[key], jobs) or self._made_anew", "self._made_anew"),
        released=("if not _is_released(name.partition", "if True or not _is_released(name.partition"),
    ),
    *_mutants(
        "workloads/core/source_code.py",
        "workloads/core/test_source_code.py",
        docstrings=("isinstance(node.value.value, str):", "isinstance(node.value.value, bytes):"),
        types_alone=('"TYPE_CHECKING" in ast.dump(child.test)', "False"),
        unmodified=("return all(_sha256(path) == digest", "return any(True or _sha256(path) == digest"),
    ),
)
