"""The decorator that says what a task needs."""

import functools

from pycompss.util.context import CONTEXT


def constraint(**constraints):
    def decorate(task):
        @functools.wraps(task)
        def call(*args, **kwargs):
            if CONTEXT.in_master():
                kwargs["_constraints"] = constraints
            return task(*args, **kwargs)

        return call

    return decorate
