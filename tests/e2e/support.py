# SPDX-License-Identifier: BSD-2-Clause
# Copyright (c) 2026 the apt-depot contributors
"""Small things that the test files share."""
import threading


class Skip(Exception):
    """This machine lacks what the test needs; the text says what."""


def heavy(weight=1, limit_s=None):
    """Marks a long test: it is started early, and may have its own limit."""
    def mark(function):
        function.weight = weight
        if limit_s is not None:
            function.limit_s = limit_s
        return function
    return mark


def patient(function):
    """Marks a test that mostly waits for the daemon's own deadlines: runs beside the others."""
    function.patient = True
    return function


def together(*jobs):
    """Runs functions at the same time; returns their results, or raises the first failure."""
    results, errors = [None] * len(jobs), []

    def run(n, job):
        try:
            results[n] = job()
        except BaseException as err:  # pylint: disable=broad-except
            errors.append(err)
    threads = [threading.Thread(target=run, args=item, daemon=True) for item in enumerate(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


class Later:
    """A function running in a thread; result() waits for it and raises what it raised."""

    def __init__(self, job):
        self._result = self._error = None
        self._thread = threading.Thread(target=self._run, args=(job,), daemon=True)
        self._thread.start()

    def _run(self, job):
        try:
            self._result = job()
        except BaseException as err:  # pylint: disable=broad-except
            self._error = err

    def result(self):
        """What the function returned."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result
