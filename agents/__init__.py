"""The workers: who they are and what they are told to do."""

from agents.npc import NPC

__all__ = ["NPC"]
