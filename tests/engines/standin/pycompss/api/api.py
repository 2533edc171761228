"""What a program asks of the runtime."""

from pycompss import _master


def compss_wait_on(*objects):
    values = [_master.wait(each) for each in objects]
    return values[0] if len(values) == 1 else values


def compss_barrier():
    _master.barrier()


def compss_delete_object(*objects):
    for each in objects:
        _master.delete(each)


def compss_get_number_of_resources():
    return len(_master.nodes)
