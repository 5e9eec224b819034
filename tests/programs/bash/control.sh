# Functions, traps, options, redirections, name spaces, and how errors end a script.
f() { local -i n=$1; ((n <= 1)) && { r=1; return; }; f $((n - 1)); ((r *= n)); }; f 20; echo $r
outer() { local x=1; inner; echo "$x"; }; inner() { x=2; echo "${FUNCNAME[*]}"; }; outer; echo "${x-unset}"
declare -i num='3 * 4'; declare -r con=5; declare -u up=abc; declare -l low=ABC; declare -x exp=1; echo $num $con $up $low
declare -p num con up low; declare -f inner; typeset -F
con=6; echo "status $?"
trap 'echo "debug $BASH_COMMAND"' DEBUG; x=1; trap - DEBUG
trap 'echo "err $? at $LINENO"' ERR; false; trap - ERR
trap 'echo "return"' RETURN; outer2() { return 3; }; outer2; echo $?; trap - RETURN
trap 'echo "int"' INT; kill -INT $$; trap 'echo "usr2 $?"' USR2; kill -USR2 $BASHPID; trap -p
exec {fd}> out; echo to fd >&$fd; exec {fd}>&-; read -r line < out; echo "$line"
echo text &> all; echo err >&2 2>> all; exec 5<> both; echo rw >&5; exec 5>&-; read -r l < both; echo "$l"
set -o noclobber; echo x > out; echo "clobber $?"; set +o noclobber; set -o pipefail; shopt -o pipefail; set +o pipefail
getopts_demo() { local OPTIND o; while getopts ':a:b' o; do echo "$o:${OPTARG-}"; done; echo "${@:OPTIND}"; }; getopts_demo -a 1 -b -c x; getopts_demo -a
[[ -f script && -r script && ! -x script && script -ef ./script ]] && echo file tests; [[ -o errexit ]] || echo no errexit; [[ -t 0 ]] || echo no terminal
help -d true; type -t if cd f nosuch; builtin echo builtin; command echo command; enable -n let; type -t let; enable let
pushd / ; cd - > /dev/null; dirs -c; cd /usr; cd ..; echo "$PWD $OLDPWD"; popd; echo "popd $?"; cd "$HOME"
umask 077; : > private; umask; ulimit -c 0; ulimit -c; times > /dev/null; echo "${PIPESTATUS[@]}" "$SHLVL" "$-"
history -c; alias ll='echo aliased'; shopt -s expand_aliases
ll; unalias ll
eval "v='a b'"; echo "$v"; source /dev/stdin <<< 'echo sourced'; . ./nosuch; echo "source $?"
printf '%s\n' "${BASH_SOURCE[0]##*/}" "$LINENO" "${0##*/}" "$#"; set -- x y z; echo "$@" "${@: -1}" "${*:2}"; shift 2; echo "$*"
wait; echo "wait $?"; read -t 0.01 -r never < /dev/null; echo "read $?"; jobs
time_format() { TIMEFORMAT=timed; time :; }; time_format; printf '%.3d\n' "$((10#007))"; echo $((1 / 0)); echo "arith $?"
caller; sum() { local t=0 n; for n; do ((t += n)); done; echo $t; }; sum {1..100}
printf -v big '%*s' 100000 ''; echo ${#big}; big=${big// /ab}; echo ${#big} "${big:99999:4}"
set -eu; trap 'echo "exit $?"' EXIT; echo "$undefined"; echo unreached
