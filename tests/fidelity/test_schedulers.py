from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcompss.errors import InputError
from hpcompss.fidelity import SCHEDULERS, Report, make_scheduler
from hpcompss.fidelity.base import geometric
from hpcompss.fidelity.extrapolation import probability_below

EPOCHS = {"min_epochs": 1, "max_epochs": 9}
CURVES = ("median", "extrapolation")
FORMS = [*({"scheduler": name} for name in SCHEDULERS), {"scheduler": "asha", "form": "stopping"}]


def made(scheduler, **options):
    return make_scheduler({"scheduler": scheduler, **EPOCHS, **options})


class Search:
    """Plays trials against a scheduler: the loss of trial n is n's quality, whatever its budget, unless it fails."""

    def __init__(self, scheduler, trials, workers=3, seed=0, failing=()):
        self.scheduler, self.trials, self.workers = scheduler, trials, workers
        self.random = random.Random(seed)
        self.qualities = self.random.sample(range(trials), trials)
        self.failing = failing
        self.reports = []
        self.running = []
        self.begun = 0

    def next(self):
        last = self.begun == self.trials
        if due := self.scheduler.due(self.begun if last else None):
            self.scheduler.begin(due[0][0])
            return due[0]
        if last:
            return None
        self.begun += 1
        return self.begun - 1, self.scheduler.first(self.begun - 1)

    def report(self, number, budget):
        loss = math.inf if number in self.failing else float(self.qualities[number])
        report = Report(number, budget, loss, curve=() if loss == math.inf else (loss,))
        self.scheduler.report(report)
        self.reports.append(report)

    def run(self, reports=10**9):
        while len(self.reports) < reports:
            while len(self.running) < self.workers and (work := self.next()) is not None:
                self.running.append(work)
            if not self.running:
                break
            self.report(*self.running.pop(self.random.randrange(len(self.running))))
        return self

    def reached(self):
        budgets = {}
        for report in self.reports:
            assert report.budget > budgets.get(report.number, 0)
            budgets[report.number] = report.budget
        return budgets


@pytest.mark.parametrize("options", FORMS, ids=lambda each: "-".join(each.values()))
@pytest.mark.parametrize("workers", [1, 4, 64])
def test_every_trial_begins_and_the_best_are_trained_longest(options, workers):
    search = Search(made(**options), 60, workers).run()
    budgets = search.reached()
    assert sorted(budgets) == list(range(60))
    by_budget = {budget: [search.qualities[n] for n in budgets if budgets[n] == budget] for budget in (1, 9)}
    assert by_budget[9]
    if workers < 64 and options["scheduler"] != "extrapolation":  # which has no curves here to go by
        assert by_budget[1]
        assert np.mean(by_budget[9]) < np.mean(by_budget[1])


@pytest.mark.parametrize("options", FORMS, ids=lambda each: "-".join(each.values()))
def test_reports_alone_make_the_state(options):
    """What a resumed study does: it tells a new scheduler what the journal has, and goes on from there."""
    search = Search(made(**options), 40).run(reports=25)
    again = made(**options)
    for report in search.reports:
        again.report(report)
    for number, budget in search.scheduler.due():
        assert (number, budget) in again.due()
    search.scheduler = again
    search.running = [(number, budget) for number, budget in search.running if budget == again.first(number)]
    search.run()
    assert sorted(search.reached()) == list(range(40))
    assert max(search.reached().values()) == 9


@pytest.mark.parametrize("options", FORMS, ids=lambda each: "-".join(each.values()))
def test_failed_trials_do_not_go_on_and_hold_nobody_up(options):
    search = Search(made(**options), 40, failing=set(range(0, 40, 3))).run()
    budgets = search.reached()
    assert len(budgets) == 40
    assert all(budgets[number] == search.scheduler.first(number) for number in search.failing)
    assert max(budgets.values()) == 9


@pytest.mark.parametrize("options", FORMS, ids=lambda each: "-".join(each.values()))
def test_a_stage_that_was_interrupted_is_due_again(options):
    search = Search(made(**options), 40)
    for reports in range(1, 40):
        if due := search.scheduler.due():
            break
        search.run(reports)
    search.scheduler.begin(due[0][0])
    assert due[0] not in search.scheduler.due()
    search.scheduler.give_back(due[0][0])
    assert due[0] in search.scheduler.due()


@pytest.mark.parametrize("options", FORMS, ids=lambda each: "-".join(each.values()))
def test_what_does_not_go_on_is_said_once(options):
    search = Search(made(**options), 40).run()
    dropped = search.scheduler.dropped()
    assert len(dropped) == len(set(dropped))
    at_the_end = {number for number, budget in search.reached().items() if budget == 9}
    assert at_the_end <= set(dropped)
    assert search.scheduler.dropped() == []


def test_successive_halving_keeps_a_third():
    search = Search(made("successive_halving", eta=3), 18, workers=4).run()
    for begin in (0, 9):
        bracket = sorted(range(begin, begin + 9), key=lambda n: search.qualities[n])
        reached = search.reached()
        assert [reached[number] for number in bracket] == [9, 3, 3, 1, 1, 1, 1, 1, 1]


def test_hyperband_has_the_brackets_of_its_paper():
    scheduler = make_scheduler({"scheduler": "hyperband", "min_epochs": 1, "max_epochs": 81, "eta": 3})
    sizes = [scheduler.bracket(number) for number in (0, 81, 115, 130, 138, 143)]
    assert [(each.size, each.rung) for each in sizes] == [(81, 0), (34, 1), (15, 2), (8, 3), (5, 4), (81, 0)]
    assert [scheduler.first(number) for number in (0, 80, 81, 142)] == [1, 1, 3, 81]


def test_a_bracket_that_is_not_filled_is_finished_and_can_be_filled_later():
    search = Search(made("successive_halving", eta=3), 9)
    search.trials = 4
    search.run()
    assert sorted(search.reached().values()) == [1, 1, 1, 9]
    search.trials = 9
    search.run()
    best = min(range(9), key=lambda n: search.qualities[n])
    assert search.reached()[best] == 9


def test_asha_promotes_by_algorithm_2():
    scheduler = made("asha", eta=3)
    for number, loss in enumerate([5.0, 3.0]):
        scheduler.report(Report(number, 1, loss))
        assert scheduler.due() == []
    scheduler.report(Report(2, 1, 4.0))
    assert scheduler.due() == [(1, 3)]
    scheduler.begin(1)
    for number in (3, 4, 5):
        scheduler.report(Report(number, 1, 9.0))
    assert scheduler.due() == [(2, 3)]


def test_asha_that_stops_judges_once():
    scheduler = made("asha", eta=2, form="stopping")
    for number, (loss, survives) in enumerate([(5.0, True), (6.0, False), (4.0, True), (4.5, True), (5.5, False)]):
        scheduler.report(Report(number, scheduler.levels[0], loss))
        assert (number in [each for each, _ in scheduler.due()]) == survives


def test_infeasible_trials_rank_behind_all_feasible_ones():
    scheduler = made("successive_halving", eta=3)
    for number in range(9):
        scheduler.report(Report(number, 1, float(number), violation=1.0 if number < 5 else 0.0))
    assert [number for number, _ in scheduler.due()] == [5, 6, 7]


def test_a_trial_that_ended_early_moves_up_without_training():
    scheduler = made("successive_halving", eta=3)
    for number in range(9):
        scheduler.report(Report(number, 1, float(number), ended=number == 0))
    assert scheduler.due() == [(1, 3), (2, 3)]
    scheduler.report(Report(1, 3, 5.0))
    scheduler.report(Report(2, 3, 6.0))
    assert scheduler.due() == []
    assert scheduler.rungs[-1] == {0: (0.0, 0.0)}


def test_the_median_rule():
    scheduler = made("median", startup_trials=2)
    for number, curve in enumerate([(4.0,), (2.0,)]):
        scheduler.report(Report(number, 1, curve[0], curve=curve))
    assert len(scheduler.due()) == 2
    scheduler.report(Report(2, 1, 3.5, curve=(3.5,)))  # the median of 4 and 2 is 3
    assert 2 not in dict(scheduler.due())
    scheduler.report(Report(3, 1, 3.0, curve=(3.0,)))
    assert 3 in dict(scheduler.due())


def test_a_curve_that_has_levelled_off_is_known_not_to_fall_and_a_falling_one_may():
    epochs = np.arange(1, 11)
    level = 0.5 + 0.3 * 0.3**epochs
    falling = 0.1 + 0.8 * epochs**-0.5
    assert probability_below(0.2, epochs, level, 50) < 0.02
    assert probability_below(0.3, epochs, falling, 50) > 0.3
    assert probability_below(0.0, epochs[:3], level[:3], 50) == 1.0


@given(st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_extrapolation_is_calibrated_on_power_laws(seed):
    """The end of a noisy power law, as the family has it, is not declared all but impossible."""
    generator = np.random.default_rng(seed)
    end, fall, power = generator.uniform(0, 0.5), generator.uniform(0.1, 1), generator.uniform(0.3, 2)
    epochs = np.arange(1, 13)
    noisy = end + fall * epochs**-power + generator.normal(0, 0.01, len(epochs))
    truth = end + fall * 50.0**-power
    assert probability_below(truth + 0.1, epochs, noisy, 50) > 0.3


def test_extrapolation_ends_what_cannot_win():
    scheduler = make_scheduler({"scheduler": "extrapolation", "min_epochs": 5, "max_epochs": 20, "startup_trials": 1})
    good, bad = (lambda t: 0.1 + 0.5 / t), (lambda t: 0.6 + 0.3 / t**2)
    for number, curve in enumerate((good, bad)):
        for level in scheduler.levels:
            if number == 1 and level > 5 and 1 not in dict(scheduler.due()):
                break
            epochs = range(level - 4, level + 1)
            scheduler.report(Report(number, level, curve(level), curve=tuple(map(curve, epochs))))
    assert 0 in scheduler.rungs[-1]
    assert 1 in scheduler.rungs[0] and 1 not in scheduler.rungs[1]


@given(low=st.integers(1, 20), factor=st.integers(2, 100), eta=st.floats(1.5, 5))
@settings(deadline=None)
def test_levels_ascend_from_the_lowest_to_the_full_budget(low, factor, eta):
    high = math.ceil(low * max(factor, eta))
    levels = geometric(low, high, eta)
    assert list(levels) == sorted(set(levels))
    assert (levels[0], levels[-1]) == (low, high)
    for before, after in itertools.pairwise(levels):
        assert eta**0.5 * (before - 0.5) <= after + 0.5
        assert after - 0.5 <= eta**1.5 * (before + 0.5)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"scheduler": "ahsa"}, "unknown scheduler 'ahsa'; did you mean 'asha'?"),
        ({"scheduler": "asha", "etaa": 3}, "the asha scheduler has no option 'etaa'; did you mean 'eta'?"),
        ({"scheduler": "median", "eta": 3}, "the median scheduler has no option 'eta'"),
        ({"scheduler": "asha", "eta": 1}, "eta is a number above 1"),
        ({"scheduler": "asha", "min_epochs": 10}, "min_epochs (10) is above max_epochs (9): swap them"),
        ({"scheduler": "asha", "min_epochs": 9}, "both 9: nothing varies"),
        ({"scheduler": "asha", "min_epochs": 0}, "must be a whole number of at least 1, not 0"),
        ({"scheduler": "asha", "min_epochs": 4}, "4 times eta (3) is above 9, so that nothing could be stopped early"),
        ({"scheduler": "asha", "min_share": 0.1}, "give either max_epochs or min_share"),
        ({"scheduler": "asha", "min_share": 1.5, "max_epochs": None}, "above 0 and below 1, not 1.5"),
        ({"scheduler": "median", "min_share": 0.1, "max_epochs": None}, "give min_epochs in place of min_share"),
        ({"scheduler": "asha", "form": "promote"}, "unknown form 'promote'; did you mean 'promotion'?"),
        ({"scheduler": "median", "interval": 0}, "the interval is a whole number of epochs of at least 1, not 0"),
        ({"scheduler": "extrapolation", "probability": 0}, "the probability is a number above 0 and below 1, not 0"),
        ({"scheduler": "median", "startup_trials": 0}, "must be a whole number of at least 1, not 0"),
        ({"scheduler": "hyperband", "max_epochs": None}, "give max_epochs"),
    ],
)
def test_bad_settings(stated, message):
    settings = {"max_epochs": 9, **stated}
    with pytest.raises(InputError) as caught:
        make_scheduler({key: value for key, value in settings.items() if value is not None})
    assert message in caught.value.message
    assert caught.value.key.startswith("fidelity")


@pytest.mark.parametrize("scheduler", ["asha", "hyperband", "successive_halving"])
def test_too_few_trials_for_one_bracket_say_how_many_it_takes(scheduler):
    settings = {"scheduler": scheduler, "min_epochs": 1, "max_epochs": 27}
    assert make_scheduler(settings, trials=27) is not None
    with pytest.raises(
        InputError, match=r"needs at least 27 trials .*, not 26: give so many, or raise min_epochs \(1\)"
    ):
        make_scheduler(settings, trials=26)


def test_no_scheduler():
    assert make_scheduler(None) is None
    assert make_scheduler({"scheduler": "none"}) is None
