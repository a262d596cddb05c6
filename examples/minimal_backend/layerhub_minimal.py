"""The smallest LayerHub backend: an array-API library, with no kernel and no differentiation of its own."""

from layerhub.hookspecs import BackendEntry, hookimpl

LAYERHUB_API = 1


def load():
    import array_api_compat.numpy

    from layerhub.contract import Backend

    class MinimalBackend(Backend):
        name = "minimal"
        namespace = array_api_compat.numpy

        def owns(self, x):
            return False  # its arrays are ndarrays, and those are the numpy backend's

    return MinimalBackend()


@hookimpl
def layerhub_backend():
    return BackendEntry("minimal", load=load, requires=("array_api_compat",), install="pip install array-api-compat")
