"""The people of a run, as its model is shown them."""

from siamtune.config import trial_config
from siamtune.data.decode import Progress, decode
from siamtune.launch.job import DataSpec
from siamtune.launch.worker import data_source, prepare_faces
from siamtune.report.gallery import Gallery
from siamtune.shipping.verifier import Verifier


def open_gallery(verifier: Verifier, spec: DataSpec, progress: Progress | None = None) -> Gallery:
    """Prepare the pictures of `spec` for a model, or take them from the cache.

    Raises:
        DataError: they are gone or too few.
    """
    config = trial_config(dict(verifier.facts["config"])).data
    faces = prepare_faces(spec, config, progress)
    source = data_source(spec)
    return Gallery(verifier, faces, source, decode(source, progress=progress))
