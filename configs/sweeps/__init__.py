"""Sweeps: one file each, ``get_config()`` with the sections of :func:`vision.studies.sweep.plan.sweep`."""
