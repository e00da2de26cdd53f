#!/bin/sh
# What cargo calls in place of rustc for the coverage run: only this package is instrumented. Counters in
# its few hundred dependencies would make the tests slow, and leave megabytes behind for each of the
# hundreds of processes that they start.
case ${CARGO_PRIMARY_PACKAGE:-no}:$* in
1:*build_script*) other=1 ;; # It would leave its counters in the repository.
1:*) other= ;;
*) other=1 ;;
esac
if [ "$other" ]; then
  for argument; do
    shift
    case $argument in
      -Cinstrument-coverage | -Clink-dead-code | -Cdebuginfo=2) ;;
      *) set -- "$@" "$argument" ;;
    esac
  done
fi
exec "$@"
