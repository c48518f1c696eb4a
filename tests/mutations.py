"""Break each promise on purpose and see its test fail. `python tests/mutations.py [NUMBER ...]`

Each mutation is one edit of one file, made in a copy of the project. The test named beside it must pass before and fail
after. A mutation whose text is no longer in the file is an error: the promise has moved and this list must follow.
docs/privacy.md lists them by the same numbers.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("common", "client", "server", "simulation", "tests", "docs", "pyproject.toml")


@dataclass(frozen=True)
class Mutation:
    """`old` in `file` becomes `new`: `fault`. `test` is a file of tests, with the choice of tests in it."""

    fault: str
    file: str
    old: str
    new: str
    test: tuple[str, str]


MUTATIONS = (
    Mutation(
        "records are drawn with half the accounted probability",
        "client/dp/training.py",
        "noise.uniform_mask(examples, plan.sampling_probability)",
        "noise.uniform_mask(examples, plan.sampling_probability / 2)",
        ("tests/client/dp/test_training.py", "every_record_is_drawn_with_the_accounted_probability"),
    ),
    Mutation(
        "an empty batch takes no step",
        "client/dp/training.py",
        "            stepper.step()\n",
        "            if len(rows): stepper.step()\n",
        ("tests/client/dp/test_training.py", "a_step_without_any_record_still_adds_noise"),
    ),
    Mutation(
        "the sum is divided by the number of units drawn",
        "client/dp/mechanism.py",
        "(self.grid.step / self._settings.expected_batch_size)",
        "(self.grid.step / max(1, self._units))",
        ("tests/client/dp/test_mechanism.py", "does_not_depend_on_how_many_examples_were_drawn"),
    ),
    Mutation(
        "each number is clipped by itself, not all together",
        "client/dp/clipped_sum.py",
        "whole, shortened = self.grid.clip(gradients, space)\n",
        "whole, shortened = self.grid.clip(gradients)\n"
        "        clip = self.grid.clipping_norm\n"
        "        whole = (gradients.clamp(-clip, clip) / self.grid.step).trunc()\n",
        ("tests/client/dp/test_mechanism.py", "adding_one_example_moves_the_sum_by_at_most_the_clipping_norm"),
    ),
    Mutation(
        "two thirds of the noise",
        "client/dp/mechanism.py",
        "return self._settings.noise_multiplier * self._settings.clipping_norm / self.grid.step",
        "return self._settings.noise_multiplier * self._settings.clipping_norm / self.grid.step * 2 / 3",
        ("tests/client/dp/test_mechanism.py", "the_added_noise_has_standard_deviation_sigma_times_clip"),
    ),
    Mutation(
        "noise from a key that everybody knows",
        "client/dp/noise.py",
        "super().__init__(os.urandom(32))",
        "super().__init__(bytes(32))",
        ("tests/client/dp/test_noise.py", "seeding_every_generator_does_not_repeat_system_noise"),
    ),
    Mutation(
        "the training is charged after it was done",
        "client/federation/local_round.py",
        "    charge = None if event.noise_multiplier and plan.dp is None else _charge(job, event, num_units)\n"
        "    noise = None if plan.dp is None else noise_source(job)\n"
        "    stats = yield from pausing_train(\n"
        "        job.model, job.data.tokens, plan, noise, cache=cache, observers=job.observers, release=release\n"
        "    )\n",
        "    noise = None if plan.dp is None else noise_source(job)\n"
        "    stats = yield from pausing_train(\n"
        "        job.model, job.data.tokens, plan, noise, cache=cache, observers=job.observers, release=release\n"
        "    )\n"
        "    charge = None if event.noise_multiplier and plan.dp is None else _charge(job, event, num_units)\n",
        ("tests/client/federation/test_local_round.py", "the_reservation_is_on_disk_when_training_begins"),
    ),
    Mutation(
        "a training that never finished is free",
        "common/privacy/charges.py",
        "return event if self.steps_done is None else replace(event, steps=self.steps_done)",
        "return replace(event, steps=self.steps_done or 0)",
        ("tests/common/privacy/test_ledger.py", "kill_9_at_200_random_moments_never_loses_a_step"),
    ),
    Mutation(
        "every run has a budget of its own",
        "common/privacy/ledger.py",
        "spendings(self._charges.values()), Spending(event",
        "spendings(()), Spending(event",
        ("tests/common/privacy/test_ledger.py", "other_data_another_run_and_reopening_start_no_fresh_budget"),
    ),
    Mutation(
        "the limit is checked at the delta that the run states",
        "client/institution/limits.py",
        "    ledger.check(event, context, *_budgets(institution))\n",
        "    ledger.check(event, context, institution and institution.limits.budget and "
        "replace(institution.limits.budget, delta=context.delta))\n",
        ("tests/client/federation/test_local_round.py", "the_limit_is_checked_at_the_officers_delta"),
    ),
    Mutation(
        "the noise is calibrated for one round",
        "client/federation/planning.py",
        "rate, steps_of_run(config, steps)",
        "rate, steps",
        ("tests/client/federation/test_local_round.py", "a_target_epsilon_is_met_over_all_rounds"),
    ),
    Mutation(
        "a retransmission is trained again, with new noise",
        "client/agent/agent.py",
        "if (outbox / name).exists():",
        "if False:",
        ("tests/client/agent/test_agent.py", "a_retransmission_is_answered_with_the_same_bytes"),
    ),
    Mutation(
        "epsilon of adding a record only, not of removing one",
        "common/privacy/pld.py",
        "return privacy_loss_distribution.PrivacyLossDistribution(*directions)",
        "return privacy_loss_distribution.PrivacyLossDistribution(directions[1], directions[1])",
        ("tests/common/privacy/test_accounting.py", "one_sampled_step_is_the_integral_that_defines_it"),
    ),
    Mutation(
        "sums are divided by the true number of records",
        "client/federation/local_round.py",
        "    return _plan(config, institution, event_of_round(config, institution, num_units), round_)\n",
        "    plan = _plan(config, institution, event_of_round(config, institution, num_units), round_)\n"
        "    object.__setattr__(plan.dp, 'expected_batch_size', plan.sampling_probability * num_units)\n"
        "    return plan\n",
        ("tests/client/federation/test_local_round.py", "divided_by_what_was_declared_and_never_by_what_was_counted"),
    ),
    Mutation(
        "a contribution carries the training loss",
        "common/protocol/messages.py",
        "    declared_units: int | None\n\n    def __post_init__",
        "    declared_units: int | None\n    loss: float = 0.0\n\n    def __post_init__",
        ("tests/common/protocol/test_disclosures.py", "every_field_that_the_hub_receives_was_decided"),
    ),
    Mutation(
        "the lines of the ledger can be written without the key",
        "common/journal/line_format.py",
        "        _check_signature(public, head.signature, head.signed())\n",
        "",
        ("tests/common/journal/test_journal.py", "one_flipped_bit_anywhere_is_found"),
    ),
    Mutation(
        "a customer's rows are clipped one by one",
        "client/dp/clipped_sum.py",
        "        if owners is None:\n            self._clip_and_add(samples, samples)\n",
        "        if True:\n            self._clip_and_add(samples, samples)\n",
        ("tests/client/dp/test_mechanism.py", "adding_one_customer_moves_the_sum_by_at_most_the_clipping_norm"),
    ),
    Mutation(
        "a customer's rows in the next physical batch are clipped anew",
        "client/dp/clipped_sum.py",
        "self.add_samples(self.samples(losses, examples), owners)\n",
        "self.add_samples(self.samples(losses, examples), owners)\n"
        "        for total in self._open.values():\n"
        "            self.add_units(total[None])\n"
        "        self._open = {}\n",
        ("tests/client/dp/test_mechanism.py", "a_customers_gradients_are_added_up_and_then_clipped"),
    ),
    Mutation(
        "rows are drawn, but customers are accounted",
        "client/dp/training.py",
        "np.flatnonzero(noise.uniform_mask(int(owners.max()) + 1, plan.sampling_probability)[owners])",
        "np.flatnonzero(noise.uniform_mask(examples, plan.sampling_probability))",
        ("tests/client/dp/test_training.py", "every_customer_is_drawn_with_the_accounted_probability"),
    ),
    Mutation(
        "a long gradient is rounded to the nearest integers, not toward zero",
        "client/dp/grid.py",
        "torch.mul(part, factor[:, None], out=target).trunc_()",
        "torch.mul(part, factor[:, None], out=target).round_()",
        ("tests/client/dp/test_grid.py", "a_long_gradient_keeps_its_direction"),
    ),
    Mutation(
        "a parameter that the optimiser does not hold is trained",
        "client/dp/mechanism.py",
        "            if id(parameter) not in held:\n",
        "            if id(parameter) not in held and False:\n",
        ("tests/client/dp/test_mechanism.py", "a_trainable_parameter_outside_the_optimiser"),
    ),
    Mutation(
        "wrong per-example gradients are clipped in silence",
        "client/dp/gradient_check.py",
        "_TOLERANCE * parameter.grad.norm() + 1e-7",
        "_TOLERANCE * parameter.grad.norm() + 1e7",
        ("tests/client/dp/test_mechanism.py", "examples_that_depend_on_each_other_stop_the_training"),
    ),
    Mutation(
        "Adam's second moment loses twice the noise's variance",
        "common/adapters/optimizer.py",
        '(1 - second ** state["step"]) - self._noise_variance',
        '(1 - second ** state["step"]) - 2 * self._noise_variance',
        ("tests/common/adapters/test_optimizer.py", "each_coordinate_moves_as_the_paper_says"),
    ),
    Mutation(
        "an audit's confidence is not shared out between its tries",
        "client/audit/one_run.py",
        "each = (1 - confidence) / len(SHARES)",
        "each = 1 - confidence",
        ("tests/client/audit/test_one_run.py", "the_confidence_is_shared_out_between_the_shares"),
    ),
    Mutation(
        "dropout in a private step, by masks that follow from the hub's seed",
        "client/dp/training.py",
        "model.train_mode(dropout=plan.dp is None)",
        "model.train_mode()",
        ("tests/client/dp/test_training.py", "adding_one_record_moves_a_step_by_at_most_the_clipping_norm"),
    ),
    Mutation(
        "a record is padded to the longest of its batch",
        "common/tokenization/blocks.py",
        "        tokens = padded_length(ids.size, limit)\n",
        "        tokens = padded_length(max(data.input_ids[other].size for other in rows), limit)\n",
        ("tests/client/dp/test_training.py", "a_long_record_moves_no_other_records_gradient"),
    ),
    Mutation(
        "the probe compares with an example that is padded as well",
        "client/dp/gradient_check.py",
        "        batch = texts.batch(range(2)[rows], model.base.device)",
        "        batch = texts.batch(range(2), model.base.device)\n"
        "        batch = replace(batch, input_ids=batch.input_ids[rows], attention_mask=batch.attention_mask[rows])",
        ("tests/client/dp/test_training.py", "an_example_whose_gradient_depends_on_its_padding_stops"),
    ),
    Mutation(
        "a ledger that was deleted is a fresh budget",
        "client/agent/agent.py",
        "self.keys, begun=True)",
        "self.keys)",
        ("tests/client/agent/test_agent.py", "a_ledger_that_is_gone_is_a_loss_and_no_fresh_budget"),
    ),
    Mutation(
        "runs that are chosen one after another are admitted by privacy-loss distributions",
        "common/privacy/filter.py",
        "    return filter_epsilon([s.event for s in history], limit) <= limit.epsilon\n",
        "    return epsilon([s.event for s in history], limit.delta) <= limit.epsilon\n",
        ("tests/common/privacy/test_filter.py", "no_second_run_that_is_chosen_after_the_first_exceeds_the_limit"),
    ),
    Mutation(
        "a run that spends the whole limit may be followed by another",
        "common/privacy/filter.py",
        "    if is_kept_for_one_mechanism(history, limit):\n        return len(_mechanisms(history)) <= 1 and epsilon",
        "    if is_kept_for_one_mechanism(history, limit):\n        return epsilon",
        ("tests/common/privacy/test_filter.py", "calibrated_to_the_limit_fits_exactly_and_then_nothing_else_does"),
    ),
    Mutation(
        "a forbidden task is trained",
        "client/institution/limits.py",
        "        if name not in limits.tasks:\n",
        "        if False:\n",
        ("tests/client/institution/test_limits.py", "each_limit_refuses_a_training_in_one_line_and_charges_nothing"),
    ),
    Mutation(
        "a forbidden base model is trained",
        "client/institution/limits.py",
        "    if training.base_model not in institution.model.allowed:\n",
        "    if False:\n",
        ("tests/client/institution/test_limits.py", "each_limit_refuses_a_training_in_one_line_and_charges_nothing"),
    ),
    Mutation(
        "labels of a private training are collected from the rows",
        "client/finetune/job.py",
        "        if self.privacy is not None and any(\n            data.train.labels_from_rows",
        "        if self.privacy is not None and any(\n            False and data.train.labels_from_rows",
        ("tests/client/finetune/test_job.py", "refuses_labels_that_were_collected_from_the_rows"),
    ),
    Mutation(
        "a run is refused if a row has a label that the run does not have",
        "client/federation/planning.py",
        "numbered=data.labels, leave_out_others=True, answers=",
        "numbered=data.labels, answers=",
        ("tests/client/federation/test_planning.py", "no_set_of_labels_tells_whether_a_row_carries_one"),
    ),
    Mutation(
        "frozen features are computed in blocks padded to the longest row of the file",
        "common/adapters/frozen_blocks.py",
        "        for block in fixed_blocks(\n"
        "            texts, np.arange(len(data)), base.max_tokens, max_batch_tokens, one_size=base.needs_one_size\n"
        "        ):",
        "        for block in [Block(np.arange(len(data)), len(data), int(lengths.max()) + 1)]:",
        ("tests/client/dp/test_training.py", "frozen_features_are_computed_at_a_length_that_follows_from_the_record"),
    ),
    Mutation(
        "blocks have as many rows as there are examples, and no dummies",
        "common/tokenization/blocks.py",
        "    large, small = numbers\n",
        "    return [(rows, len(rows))] if len(rows) else []\n    large, small = numbers\n",
        ("tests/common/tokenization/test_blocks.py", "an_examples_shape_follows_from_the_example_alone"),
    ),
    Mutation(
        "sums of clipped gradients are floats",
        "client/dp/grid.py",
        "self._total = torch.zeros(size, dtype=torch.int64, device=device)",
        "self._total = torch.zeros(size, dtype=torch.float32, device=device)",
        ("tests/client/dp/test_grid.py", "four_hundred_thousand_units_are_summed_exactly"),
    ),
    Mutation(
        "a gradient that is not finite keeps its other numbers",
        "client/dp/grid.py",
        "whole[~within] = 0",
        "whole[~within] = torch.nan_to_num(whole[~within], 0.0, 1.0)",
        ("tests/client/dp/test_grid.py", "a_gradient_without_a_direction_is_zero"),
    ),
    Mutation(
        "any clipping norm that float32 can hold is accepted",
        "client/dp/grid.py",
        "        if not low <= self.clipping_norm <= high:\n",
        "        if not 0 < self.clipping_norm < math.inf:\n",
        ("tests/client/dp/test_grid.py", "a_clipping_norm_at_the_edges_of_float32_is_refused"),
    ),
    Mutation(
        "noise that float64 cannot decide is left to it",
        "client/dp/noise.py",
        "undecided = ~(np.abs(np.abs(values - rounded) - 0.5) > margin)",
        "undecided = np.zeros(len(values), dtype=bool)",
        ("tests/client/dp/test_noise.py", "numbers_that_float64_cannot_decide"),
    ),
    Mutation(
        "one noise vector is kept for all steps of a training",
        "client/dp/mechanism.py",
        "        return torch.from_numpy(self._noise.rounded_normal(self.size, self.deviation))",
        "        if not hasattr(self, '_kept'):\n"
        "            self._kept = torch.from_numpy(self._noise.rounded_normal(self.size, self.deviation))\n"
        "        return self._kept",
        ("tests/client/dp/test_training.py", "each_step_of_a_training_draws_noise_of_its_own"),
    ),
    Mutation(
        "exactness is verified at the adapter of the first training only",
        "client/dp/training.py",
        "    if model.verified == (training, adapter):\n",
        "    if model.verified is not None:\n",
        ("tests/client/dp/test_gradient_check.py", "exactness_is_verified_at_every_adapter_that_is_sent"),
    ),
    Mutation(
        "a model that cannot be trained privately is found after the charge",
        "client/federation/local_round.py",
        "        verify_training(job.model, plan)\n",
        "        pass\n",
        ("tests/client/federation/test_local_round.py", "a_model_that_cannot_be_trained_privately_is_refused_before"),
    ),
    Mutation(
        "finetune alone draws fixed noise",
        "client/finetune/strategies/private.py",
        "train(session.model, rows, plan, SystemNoise(), cache=cache, observers=session.job.observers)",
        "train(session.model, rows, plan, type('Fixed', (SystemNoise,), {})(), cache=cache)",
        ("tests/client/finetune/strategies/test_private.py", "alone_noise_is_the_operating_systems"),
    ),
    Mutation(
        "finetune alone is charged after it was done",
        "client/finetune/strategies/private.py",
        "        reservation = account.charge(session, event, len(rows), delta, dp.clipping_norm)\n",
        "        train(session.model, rows, plan, SystemNoise(), cache=cache)\n"
        "        reservation = account.charge(session, event, len(rows), delta, dp.clipping_norm)\n",
        ("tests/client/finetune/strategies/test_private.py", "alone_the_charge_is_on_disk_when_training_begins"),
    ),
    Mutation(
        "finetune alone divides by the true number of rows",
        "client/finetune/strategies/private.py",
        "(institution.release.declared_units if institution else None) or power_of_two_at_most(records)",
        "records",
        ("tests/client/finetune/strategies/test_private.py", "sums_are_divided_by_the_declared_size"),
    ),
    Mutation(
        "noise is calibrated for a delta of 1e-5, whatever delta the run states",
        "common/privacy/accounting.py",
        "DpSgdEvent(noise, sampling_probability, steps)], delta) <= target_epsilon",
        "DpSgdEvent(noise, sampling_probability, steps)], 1e-5) <= target_epsilon",
        ("tests/common/privacy/test_accounting.py", "calibrated_noise_meets_the_target_at_the_delta_that_is_asked_for"),
    ),
    Mutation(
        "a round's noise is calibrated for a delta of 1e-5",
        "client/federation/planning.py",
        "calibrate(config.privacy.target_epsilon, config.privacy.delta or 0.0, rate",
        "calibrate(config.privacy.target_epsilon, 1e-5, rate",
        ("tests/client/federation/test_local_round.py", "a_target_epsilon_is_met_at_the_runs_own_delta"),
    ),
    Mutation(
        "blocks of one length have two numbers of rows in bfloat16 too",
        "common/tokenization/blocks.py",
        "    if one_size:\n",
        "    if False:\n",
        ("tests/common/tokenization/test_blocks.py", "all_blocks_of_one_length_have_the_same_number_of_rows"),
    ),
    Mutation(
        "noise of other institutions is counted in each local step",
        "common/privacy/global_model.py",
        "events += [replace(event, steps=event.steps - 1), replace(event, noise_multiplier=noise, steps=1)]",
        "events.append(replace(event, noise_multiplier=noise))",
        ("tests/common/privacy/test_global_model.py", "only_the_last_local_step_of_a_round_counts_the_others_noise"),
    ),
    Mutation(
        "noise of other institutions is counted as if all had the same weight and size",
        "common/privacy/global_model.py",
        "return self.weight * self.noise / self.divisor",
        "return self.noise",
        ("tests/common/privacy/test_global_model.py", "the_ratio_is_that_of_the_noise_and_the_movement"),
    ),
    Mutation(
        "the task head that an institution keeps travels",
        "common/adapters/travelling.py",
        'return model.head_names() if config.personalisation.method == "head" else frozenset()',
        "return frozenset()",
        ("tests/client/personalisation/test_rounds.py", "no_number_of_the_personal_part_is_in_any_message"),
    ),
    Mutation(
        "the noise is not calibrated for the steps after the run",
        "client/federation/planning.py",
        "return steps * config.rounds + config.personalisation.noised_steps",
        "return steps * config.rounds",
        ("tests/client/personalisation/test_rounds.py", "stays_within_its_target_and_every_private_step_is_charged"),
    ),
    Mutation(
        "noise of other institutions is counted for a training that no other took part in",
        "client/budget/overview.py",
        "(alone if by_itself else shared).append(charge.event)",
        "shared.append(charge.event)",
        ("tests/client/commands/test_budget.py", "the_second_figure_counts_own_noise_alone_for_trainings"),
    ),
    Mutation(
        "the order in which a gradient's squares are added decides how it is shortened",
        "client/dp/grid.py",
        "(cells != above) & squares.isfinite()",
        "(cells != above) & squares.isnan()",
        ("tests/client/dp/test_grid.py", "do_not_depend_on_the_order_in_which_its_squares_are_added"),
    ),
    Mutation(
        "of an institution that survived the share of its pairwise masks is released",
        "common/secure_aggregation/participant.py",
        "held[name][0] if name in masked.survivors else held[name][1]",
        "held[name][1]",
        ("tests/common/secure_aggregation/test_participant.py", "one_share_of_one_secret_is_released"),
    ),
    Mutation(
        "two sets of survivors of one round are signed",
        "common/secure_aggregation/participant.py",
        "masked.survivors and masked.survivors != survivors",
        "False",
        ("tests/common/secure_aggregation/test_participant.py", "two_sets_of_survivors_are_never_both_signed"),
    ),
    Mutation(
        "a party that the officer did not approve counts",
        "common/secure_aggregation/participant.py",
        "name != keys.name and approved.get(name) != known",
        "False",
        ("tests/common/secure_aggregation/test_participant.py", "a_hub_cannot_add_a_participant_of_its_own"),
    ),
    Mutation(
        "an update with a part of the noise leaves without masks",
        "client/federation/local_round.py",
        "job.config.aggregation.secure is (release is None)",
        "False",
        ("tests/simulation/test_secure_aggregation.py", "answers_no_other_assignment_of_a_round_and_no_plain_one"),
    ),
    Mutation(
        "each institution adds the noise of 1 / h^2 of the variance",
        "client/federation/local_round.py",
        "alone(event, config.aggregation.honest).noise_multiplier",
        "alone(event, (config.aggregation.honest or 1) ** 2).noise_multiplier",
        ("tests/client/federation/test_secure_sum.py", "the_noise_of_a_summand_is_its_part_of_the_whole"),
    ),
    Mutation(
        "the noise of others counts in the figure without it",
        "common/privacy/ledger.py",
        "Spending(alone(event, use.honest), use.run_steps)",
        "Spending(event, use.run_steps)",
        ("tests/common/privacy/test_ledger.py", "each_figure_has_a_limit_of_its_own"),
    ),
    Mutation(
        "a shared pass adds an example to the sum of its neighbour in the block",
        "client/dp/shared_sums.py",
        "sums[places[start]].add_samples(",
        "sums[places[0]].add_samples(",
        ("tests/client/dp/test_shared_sums.py", "shared_blocks_give_each_training_its_own_bits"),
    ),
    Mutation(
        "a shared pass adds an example to another customer",
        "client/dp/shared_sums.py",
        "torch.from_numpy(owners[block.rows[start:end]])",
        "torch.from_numpy(owners[start:end])",
        ("tests/client/dp/test_shared_sums.py", "shared_blocks_give_each_training_its_own_bits"),
    ),
    Mutation(
        "an institution goes on from the adapter that the one before it has trained",
        "simulation/together.py",
        "            model.load(self._adapter)\n            self._end(each, own)\n",
        "            self._end(each, own)\n",
        ("tests/simulation/test_together.py", "a_shared_pass_changes_no_bit_of_a_run"),
    ),
    Mutation(
        "a layer over few rows is computed as it comes",
        "common/adapters/few_rows.py",
        "len(rows) >= LEAST_ROWS:",
        "len(rows) >= 2:",
        ("tests/common/adapters/test_few_rows.py", "outputs_and_gradients_of_a_row_are_those_among_many_rows"),
    ),
)


def main(numbers: list[int]) -> int:
    """Try each. Returns 1 when a mutation survives."""
    chosen = {number: MUTATIONS[number - 1] for number in numbers or range(1, len(MUTATIONS) + 1)}
    with tempfile.TemporaryDirectory() as name:
        if not _passes(_copied(Path(name)), *(mutation.test for mutation in chosen.values())):
            raise SystemExit("the tests do not pass as they are")
    survived = 0
    for number, mutation in chosen.items():
        with tempfile.TemporaryDirectory() as name:
            path = _copied(Path(name)) / mutation.file
            text = path.read_text()
            if text.count(mutation.old) != 1:
                raise SystemExit(f"{number}: {mutation.file} no longer holds {mutation.old!r} once")
            path.write_text(text.replace(mutation.old, mutation.new))
            caught = not _passes(Path(name), mutation.test)
        survived += not caught
        sys.stdout.write(f"{number:>2} {'caught  ' if caught else 'SURVIVED'} {mutation.fault}\n")
        sys.stdout.flush()
    return int(bool(survived))


def _copied(directory: Path) -> Path:
    for room in ROOMS:
        source = ROOT / room
        if source.is_dir():
            shutil.copytree(source, directory / room, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, directory / room)
    return directory


def _passes(copy: Path, *tests: tuple[str, str]) -> bool:
    """Whether the tests pass there. Tests that cannot be collected or chosen are an error."""
    files, names = sorted({file for file, _ in tests}), " or ".join(name for _, name in tests)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *files, "-k", names]
    environment = os.environ | {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"{names} cannot be run:\n{done.stdout}{done.stderr}")
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main([int(number) for number in sys.argv[1:]]))
