#!/usr/bin/env python3
"""Python's multiprocessing.Queue for channels.c: `channels.py CASE COUNT` prints the ns an item of 64 bytes, or a trip."""
import multiprocessing
import sys
import time

NOT_THERE = 77


def item_of(number):
    return number.to_bytes(8, 'little') * 8


def send(there, back, count, both_ways):
    for number in range(1, count + 1):
        item = there.get() if both_ways else item_of(number)
        back.put(item)


def main():
    case, count = sys.argv[1], int(sys.argv[2])
    if not case.startswith('channels/processes'):
        sys.exit(NOT_THERE)
    both_ways = case.endswith('trip')
    there, back = multiprocessing.Queue(1024), multiprocessing.Queue(1024)
    child = multiprocessing.Process(target=send, args=(there, back, count, both_ways))
    child.start()
    began = None
    for number in range(1, count + 1):
        if both_ways:
            there.put(item_of(number))
        if back.get() != item_of(number):
            sys.exit('a result is wrong')
        began = began or time.monotonic_ns()
    took = time.monotonic_ns() - began
    child.join()
    print(took / count)


main()
