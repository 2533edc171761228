"""Where this process stands."""


class Context:
    def __init__(self):
        self.where = "OUT_OF_SCOPE"

    def in_master(self):
        return self.where == "MASTER"

    def in_worker(self):
        return self.where == "WORKER"

    def is_nesting_enabled(self):
        return False

    def in_pycompss(self):
        return self.where != "OUT_OF_SCOPE"


CONTEXT = Context()
