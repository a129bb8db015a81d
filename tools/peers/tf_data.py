"""Plain tf.data with TensorFlow's own decoder: what big_vision and its like take.

Command: python -m tools.peers.tf_data WORK, see :mod:`tools.peers`. It needs tensorflow alone.
"""

from pathlib import Path

from tools.peers import MEAN, STD, Start, Stream, Work, begin, serve


def main() -> None:
    """Serves batches of JPEG files."""
    work = begin(Work)
    serve(streams(work))


def streams(work: Work) -> dict[str, Start]:
    """Returns what can be timed: ``jpeg``, float32 images normalised on the host, with as many threads as cores.

    Only the cropped part of a file is decoded in full; the resizing does not smooth before it shrinks.
    """

    def jpeg() -> Stream:
        import tensorflow as tf

        tf.config.set_visible_devices([], "GPU")
        tf.config.threading.set_intra_op_parallelism_threads(work.cores)
        tf.config.threading.set_inter_op_parallelism_threads(work.cores)
        mean, std = (255 * tf.constant(each) for each in (MEAN, STD))

        def load(path):
            encoded = tf.io.read_file(path)
            begin_at, size, _ = tf.image.sample_distorted_bounding_box(
                tf.image.extract_jpeg_shape(encoded),
                tf.zeros([1, 0, 4]),
                min_object_covered=0.1,
                aspect_ratio_range=(3 / 4, 4 / 3),
                area_range=(0.08, 1.0),
                max_attempts=10,
                use_image_if_no_bounding_boxes=True,
            )
            window = tf.concat([begin_at[:2], size[:2]], axis=0)
            pixels = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
            pixels = tf.image.random_flip_left_right(tf.image.resize(pixels, (work.size, work.size)))
            return (pixels - mean) / std

        paths = sorted(str(path) for path in Path(work.folder).glob("*/*"))
        options = tf.data.Options()
        options.threading.private_threadpool_size = work.cores
        options.threading.max_intra_op_parallelism = 1
        data = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths)).repeat()
        data = data.map(load, num_parallel_calls=work.cores).batch(work.batch_size, drop_remainder=True)
        # Of one core, a thread that prefetches would only get in the way; two need it to keep both busy.
        data = (data.prefetch(2) if work.cores > 1 else data).with_options(options)
        return Stream(iter(data), work.batch_size, ahead=6)

    return {"jpeg": jpeg}


if __name__ == "__main__":
    main()
