"""The last task of a Keras study: its scores on the test set, once, after a refit and an ensemble where asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcompss.errors import InputError
from hpcompss.space.tracing import HyperParameters
from hpcompss.tasks.train import REFIT, model_path
from hpcompss.training.callbacks import CurrentTrial
from hpcompss.training.data import DataSet, load_data_once
from hpcompss.training.ensemble import average
from hpcompss.training.evidence import UNTRAINED
from hpcompss.training.fitting import build_model, failure_of, fit_model, keras_session, load_hypermodel
from hpcompss.training.hypermodel import ModelBuilder
from hpcompss.training.job import Job
from hpcompss.training.kept import About, existing, load_model, read_about, save_model, sibling, why_unsaved
from hpcompss.training.rehearsal import refit_epochs
from hpcompss.training.testing import Untestable, metrics_on_test
from hpcompss.training.user_objects import user_objects
from hpcompss.trial import Configuration, Failure, Trial

__all__ = ["ENSEMBLE", "Scores", "finalize"]

ENSEMBLE = "ensemble.keras"
"""The ensemble's name in a study's folder."""


@dataclass(frozen=True)
class Scores:
    """What a study's models reach on the test set; all metrics are empty where there is none.

    Attributes:
        metrics: Those of the winner's model, of the refitted one where there is such.
        before_refit: Those of the winner's model before the refit; None where it was not refitted or was not kept.
        ensemble: Those of the ensemble, None where there is none.
        members: The trials whose models it averages.
        warnings: What the user should know.
        reason: Why the model has no score although there is a test set; empty where it has one.
        refit_failure: Why a refit that was asked for failed, so that the metrics are those of the trial's own model.
        files: What a worker without the study's folder has left for it, by path in there.
    """

    metrics: dict[str, float]
    before_refit: dict[str, float] | None = None
    ensemble: dict[str, float] | None = None
    members: list[int] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    reason: str = ""
    refit_failure: Failure | None = None
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)


def finalize(
    job: Job,
    number: int,
    configuration: Configuration,
    epoch: int | None,
    folder: Path,
    refit: bool,
    members: Sequence[Trial] = (),
) -> Scores | Failure:
    """Returns the scores of a study's models on the test set; what is raised comes back as data.

    Args:
        job: What the study's trials share.
        number: The winning trial's.
        configuration: Its values.
        epoch: The epoch that gave its score.
        folder: The study's, where the trial's model is.
        refit: Whether to train the model anew on training and validation data together, for ``epoch`` epochs, and to
            keep that one beside the trial's own.
        members: The trials whose own models, not refitted, are averaged into an ensemble; none for no ensemble.
    """
    try:
        job = job.with_configuration(configuration)
        last = _LastTask(job, load_hypermodel(job), load_data_once(job.data), folder)
        own: dict[str, float] | None = None
        if existing(model_path(folder, number)) is not None:
            own = last.score_kept(number, configuration)
        elif not refit:
            last.reason = f"the model of trial {number} was not kept; training.refit: true trains it anew"
        ensemble, used = last.make_ensemble(members)
        refitted = last.refit(number, configuration, epoch) if refit else None
        warnings = tuple(dict.fromkeys(last.warnings))
        if not isinstance(refitted, dict):
            return Scores(own or {}, None, ensemble, used, warnings, last.reason, refitted)
        return Scores(refitted, own, ensemble, used, warnings, last.reason)
    except Exception as error:
        return failure_of(error)


class _LastTask:
    """What scores models, with what the user should know of that.

    Attributes:
        reason: Why the latest model has no score.
        warnings: What the user should know.
    """

    def __init__(self, job: Job, hypermodel: ModelBuilder, data: DataSet, folder: Path) -> None:
        self._job = job
        self._hypermodel = hypermodel
        self._data = data
        self._folder = folder
        self.reason = ""
        self.warnings: list[str] = []

    def score_kept(self, number: int, configuration: Configuration) -> dict[str, float]:
        """Returns the score of the model that a trial has kept."""
        if self._data.test is None:
            return {}
        with keras_session(self._job.seed + number) as keras:
            model, about = self._kept(keras, number, configuration)
            return self._score(keras, model, configuration, about)

    def refit(self, number: int, configuration: Configuration, epoch: int | None) -> dict[str, float] | Failure:
        """Trains the model anew, keeps it, and returns its score, or what went wrong: nothing is kept then."""
        reason, warnings = self.reason, list(self.warnings)
        try:
            return self._refit(number, configuration, epoch)
        except Exception as error:
            failure = failure_of(error)
            self.warnings = warnings
            self.reason = reason
            path = model_path(self._folder, number, REFIT)
            for each in (path, sibling(path)):
                each.unlink(missing_ok=True)
            if existing(model_path(self._folder, number)) is None:
                self.reason = f"the refit failed: {failure.reason}"
            return failure

    def _refit(self, number: int, configuration: Configuration, epoch: int | None) -> dict[str, float]:
        job, hp = self._job, HyperParameters(configuration)
        epochs = refit_epochs(job, self._hypermodel, self._data, configuration, epoch)
        trial = CurrentTrial.of(self._folder, number, configuration, REFIT)
        with keras_session(job.seed + number) as keras:
            data = self._data.open()
            model = build_model(keras, self._hypermodel, hp)
            together = data.training_and_validation()
            curves = fit_model(
                *(keras, job, self._hypermodel, hp, model, together, None),
                epochs=epochs,
                trial=trial,
                refit="training.refit",
            )
            if curves.model is None or curves.evidence is None:
                raise InputError(f"it cannot be trained anew: {next(iter(hp.warnings), UNTRAINED)}")
            kept = existing(model_path(self._folder, number))
            # The trial's validation data show it best: fit may augment the training data alone.
            prepared = (
                curves.evidence.prepares_data(curves.model, together, None)
                if kept is None
                else read_about(kept).prepared
            )
            about = About(curves.evidence.inputs_of(curves.model), prepared, data.test is not None)
            path = model_path(self._folder, number, REFIT)
            note = save_model(keras, self._hypermodel, curves.model, path, configuration, about)
            self.warnings += [f"of the model that was trained anew, {note}"] if note else []
            return self._score(keras, curves.model, configuration, about)

    def make_ensemble(self, members: Sequence[Trial]) -> tuple[dict[str, float] | None, list[int]]:
        """Returns the ensemble's metrics and its members; whatever goes wrong is a warning alone."""
        reason = self.reason
        present = [trial for trial in members if existing(model_path(self._folder, trial.number)) is not None]
        absent = [trial.number for trial in members if trial not in present]
        self.warnings += [f"the ensemble lacks trial {each}, whose model was not kept" for each in absent]
        if members and len(present) < 2:
            self.warnings.append(f"there is no ensemble, for which two models are needed, not {len(present)}")
        if len(present) < 2:
            return None, []
        try:
            with keras_session(self._job.seed) as keras:
                kept = [self._kept(keras, trial.number, trial.configuration) for trial in present]
                models, (about, *_) = [model for model, _ in kept], [about for _, about in kept]
                names = [f"trial_{trial.number}" for trial in present]
                ensemble = average(keras, models, names, user_objects(self._hypermodel), about.inputs)
                scores = self._score(keras, ensemble, present[0].configuration, about)
                if self.reason and self.reason != reason:
                    self.warnings.append(f"the ensemble is not scored on the test set: {self.reason}")
                self._save_ensemble(keras, ensemble, about)
            return scores, [trial.number for trial in present]
        except Exception as error:
            self.warnings.append(f"the ensemble could not be made: {failure_of(error).reason}")
            return None, []
        finally:
            self.reason = reason

    def _save_ensemble(self, keras: Any, ensemble: Any, about: About) -> None:
        path = self._folder / ENSEMBLE
        try:
            save_model(keras, self._hypermodel, ensemble, path, None, about)
        except Exception as error:
            path.unlink(missing_ok=True)
            self.warnings.append(
                f"the ensemble has no file of its own ({why_unsaved(error)}): Study.ensemble_model() makes it of "
                "its members' models"
            )

    def _kept(self, keras: Any, number: int, configuration: Configuration) -> tuple[Any, About]:
        """Returns the model of a trial, and what its file says of it."""
        path = existing(model_path(self._folder, number))
        if path is None:
            raise InputError(f"the model of trial {number} was not kept")
        return load_model(keras, self._hypermodel, path, configuration), read_about(path)

    def _score(self, keras: Any, model: Any, configuration: Configuration, about: About) -> dict[str, float]:
        """Returns the metrics of a model on the test set, empty where there is none, or where they cannot be had."""
        self.reason = ""
        test = self._data.open().test
        if test is None:
            return {}
        hp = HyperParameters(configuration)
        try:
            metrics, note = metrics_on_test(keras, self._job, self._hypermodel, hp, model, test, about)
        except Untestable as error:
            self.reason = str(error)
            return {}
        self.warnings += [note] if note else []
        return metrics
