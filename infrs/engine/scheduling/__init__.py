"""Decide what a step computes: plan, scheduler, slots, queue, fairness."""
