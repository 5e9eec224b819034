# Loops, functions, traps, options, redirections and statuses.
i=0; while [ $i -lt 5 ]; do i=$((i + 1)); [ $i = 2 ] && continue; [ $i = 4 ] && break; echo $i; done
until [ $i -eq 0 ]; do i=$((i - 1)); done; echo $i
for x in a b c; do for y in 1 2 3; do [ $y = 2 ] && continue 2; echo $x$y; done; done
fact() { if [ $1 -le 1 ]; then r=1; else fact $(($1 - 1)); r=$((r * ($1 + 0 * 1))); fi; }
sum() { t=0; for n; do t=$((t + n)); done; return $t; }
sum 1 2 3; echo "sum $?"
f() { local l=inner; g; echo "$l"; }; g() { l=changed; }; l=outer; f; echo "$l"
echo $((1 + 2 * 3)) $((7 / 2)) $((-7 % 3)) $((1 << 10)) $((0x1f)) $((017)) $((5 > 3 && 2 > 1)) $((!0)) $((~5)) $((1 ? 2 : 3))
x=5; : $((x += 3)); echo $x $((x * x)) $((x ^ 3)) $((x | 16)) $((x & 12))
true && echo and || echo or; false && echo and || echo or; ! false; echo $?
[ -e script ] && [ -f script ] && [ ! -d script ] && [ -s script ] && echo tests
test 1 -ne 2 -a b = b; echo $?
exec 3> out; echo three >&3; echo more >&3; exec 3>&-; read l < out; echo "$l"
echo both > log 2>&1; echo added >> log; while read -r l; do echo "log: $l"; done < log
{ echo group; echo of two; } > group; read a b < group; echo "$b"; exec 4< group; read a <&4; read b c <&4; echo "$a/$b/$c"
set -C; echo x > out; echo "noclobber $?"; echo x >| out; set +C
read nothing < nosuchfile; echo "missing $?"
cd nosuchdir; echo "cd $?"
type nosuchcommand; echo "command $?"
getopts_all() { OPTIND=1; while getopts ab:c o "$@"; do echo "$o ${OPTARG-}"; done; shift $((OPTIND - 1)); echo "rest $*"; }
getopts_all -a -b value -c x y; getopts_all -ab value; getopts_all -z; getopts_all -b
trap 'echo usr1' USR1; kill -USR1 $$; echo after
trap 'echo term; x=trapped' TERM; kill -TERM $$; echo "$x"; trap - TERM; trap
trap '' HUP; kill -HUP $$; echo "still here"
umask 027; umask; : > masked; umask -S
eval 'e=evaluated; echo $e'
echo 'echo "sourced $1"; return 4; echo no' > lib; . ./lib; echo $?
command -v echo; type cd; alias; unalias -a; hash -r
readonly ro=1; export ex=2; echo $ro $ex
set -u; echo ${undefined-fallback}; set +u
set -- a b c d; shift 2; echo "$#:$1"; shift 9; echo "unreached in dash"
