# A script that ends at the first failure, after its trap.
trap 'echo "exit trap $?"' EXIT
set -e
if false; then echo no; fi
false || echo handled
! true
x() { false; echo not ended in a condition; }
if x; then echo condition; fi
echo last
false
echo unreached
