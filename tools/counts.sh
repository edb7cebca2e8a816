#!/bin/sh
# What busted counted: "passed failed", from what it printed.   counts.sh LOG
# Errors count as failed. Without a summary (it crashed half-way) both are 0:
# whoever asks looks at the exit status, too. What follows the summary are texts
# of failed tests, which may look like one.
awk '{ gsub(/\033\[[0-9;]*m/, "") }
    /^[0-9]+ success(es)? \/ [0-9]+ failures? \/ [0-9]+ errors? \// {
        passed = $1; failed = $4 + $7; exit }
    END { print passed + 0, failed + 0 }' "$1"
