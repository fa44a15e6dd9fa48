"""Explorers around explorers: a small space is scored whole, and walks may serve several rounds."""

from __future__ import annotations
