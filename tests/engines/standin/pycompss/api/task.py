"""The decorator that makes a function a task."""

import functools
import inspect

from pycompss import _master
from pycompss.api.parameter import COLLECTION_IN
from pycompss.util.context import CONTEXT


def task(returns=0, on_failure="RETRY", time_out=0, **directions):
    def decorate(function):
        names = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def call(*args, **kwargs):
            constraints = kwargs.pop("_constraints", {})
            if not CONTEXT.in_master():
                return function(*args, **kwargs)
            collections = [directions.get(name) == COLLECTION_IN for name in names]
            where = function.__module__, function.__qualname__
            return _master.submit(where, args, collections, constraints, on_failure)

        return call

    return decorate
