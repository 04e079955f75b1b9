# status: 5
# Background jobs, wait, traps, signals, exec, exit status.
trap 'echo usr1' USR1
kill -USR1 $$
sleep 0.05 & sleep 0.1 & wait; echo "all done"
(exit 3) & wait $!; echo "wait $?"
sleep 10 & pid=$!; kill -TERM $pid; wait $pid; echo "killed $?"
bash -c 'trap "" TERM; sleep 0.2; echo survived' & sleep 0.1; kill -TERM $!; wait $!; echo "status $?"
{ bash -c 'kill -KILL $$'; } 2>/dev/null; echo "bash died $?"
bash -c 'exit 300'; echo "exit $?"
timeout 0.1 sleep 10; echo "timeout $?"
mkfifo pipe; (echo through the fifo > pipe) & cat pipe; wait
for i in 1 2 3 4 5 6 7 8; do (sleep 0.0$i; exit $i) & jobs+=($!); done
status=0; for job in "${jobs[@]}"; do wait "$job"; status=$((status + $?)); done; echo "sum $status"
coproc CAT { cat; }; echo "to the coprocess" >&"${CAT[1]}"; read -r answer <&"${CAT[0]}"; echo "$answer"
exec {CAT[1]}>&-; wait
nohup true 2>/dev/null; echo "nohup $?"
bash -c "trap 'echo exit trap \$?' EXIT; exit 6"; echo "trapped $?"
ulimit -n 100; ulimit -n
umask 027; umask
exec bash -c 'echo "after exec $0 $1"; exit 5' zero one
