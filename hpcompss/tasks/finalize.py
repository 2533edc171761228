"""The last task of a Keras study: the winner's score on the test set, once, after a refit where one is asked for."""

from __future__ import annotations

import warnings
from pathlib import Path

from hpcompss.errors import InputError
from hpcompss.space.tracing import HyperParameters
from hpcompss.tasks.train import model_path, save_model
from hpcompss.training.data import load_data_once
from hpcompss.training.fitting import build_model, failure_of, fit_model, keras_session, load_hypermodel, scored
from hpcompss.training.job import Job
from hpcompss.trial import Configuration, Failure

__all__ = ["finalize"]


def finalize(
    job: Job, number: int, configuration: Configuration, epoch: int | None, folder: Path, refit: bool
) -> dict[str, float] | Failure:
    """Returns the winner's metrics on the test set, empty where there is none; what is raised comes back as data.

    Args:
        job: What the study's trials share.
        number: The winning trial's.
        configuration: Its values.
        epoch: The epoch that gave its score.
        folder: The study's, where the trial's model is.
        refit: Whether to train the model anew on training and validation data together, for ``epoch`` epochs, and to
            keep that one as the trial's model.
    """
    try:
        hypermodel = load_hypermodel(job)
        data = load_data_once(job.data)
        hp = HyperParameters(configuration)
        with keras_session(job.seed + number) as keras:
            model = build_model(keras, hypermodel, hp)
            if refit:
                together = data.training_and_validation()
                # A fit of the user's own that sets its epochs itself would be given them twice.
                fit_model(keras, job, hypermodel, hp, model, together, None, epochs=epoch if job.epochs else None)
                save_model(model, model_path(folder, number))
            else:
                if not model_path(folder, number).exists():
                    raise InputError(f"the model of trial {number} was not kept; training.refit: true trains it anew")
                # Weights alone: a model with the user's own layers loads only where those are registered.
                model(data.x_train[:1])
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # that the optimizer's state is left out
                    model.load_weights(model_path(folder, number))
            if data.x_test is None:
                return {}
            if not model.compiled:
                raise InputError("build(hp) does not compile the model, so no metrics are known to test it by")
            return scored(keras, model, (data.x_test, data.y_test), job.batch_size)
    except Exception as error:
        return failure_of(error)
