# needs: perl
# status: 6
use strict; use warnings; use POSIX qw(:sys_wait_h); use File::Temp qw(tempfile); use File::Find; use Fcntl qw(:flock SEEK_SET);
$| = 1;
my %count; $count{length $_}++ for qw(a bb cc ddd); print join(",", map { "$_=$count{$_}" } sort keys %count), "\n";
my ($fh, $name) = tempfile(UNLINK => 1); print $fh "line $_\n" for 1 .. 1000; flock($fh, LOCK_EX) or die; seek($fh, 0, SEEK_SET);
my @lines = <$fh>; print scalar(@lines), " ", $lines[-1];
pipe(my $reader, my $writer) or die; my $pid = fork // die;
if ($pid == 0) { close $reader; print $writer "from the child\n"; close $writer; POSIX::_exit(3); }
close $writer; print <$reader>; waitpid($pid, 0); print "status ", WEXITSTATUS($?), "\n";
print `echo backticks`; print "system ", system("sh", "-c", "exit 4") >> 8, "\n"; open(my $p, "-|", "seq 3") or die; print while <$p>; close $p;
$SIG{ALRM} = sub { die "alarm\n" }; eval { alarm 1; select(undef, undef, undef, 10); }; print $@;
$SIG{USR1} = sub { print "usr1\n" }; kill USR1 => $$; mkdir "tree$_" for 1 .. 3; my @found; find(sub { push @found, $_ if -d }, "."); print join(" ", sort @found), "\n";
print join(" ", map { sprintf "%03o", (stat $_)[2] & 0777 } "tree1"), "\n"; printf "%s %.2f\n", (sort { $b <=> $a } 3, 20, 1)[0], 2 / 3; exit 6;
