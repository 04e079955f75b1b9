# needs: git
# timeout: 300
# A repository of 1,000 files: init, add, commit, log, branch, merge, clone, gc.
set -e
export GIT_AUTHOR_NAME=A GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=C GIT_COMMITTER_EMAIL=c@example.org
export GIT_AUTHOR_DATE='2005-04-07T22:13:13 +0000' GIT_COMMITTER_DATE='2005-04-07T22:13:13 +0000' GIT_CONFIG_NOSYSTEM=1 HOME=$PWD
git init -q -b main repo; cd repo; git config gc.auto 0
for d in $(seq 1 20); do mkdir d$d; for f in $(seq 1 50); do echo "file $d/$f" > d$d/f$f; done; done
git add .; git commit -qm 'one thousand files'; git log --format='%H %s'; git ls-files | wc -l; git status --short | wc -l
echo changed >> d1/f1; rm d2/f2; echo new > new; git status --short; git add -A; git commit -qm second; git show --stat --format=%s | tail -4
git checkout -q -b topic HEAD~1; echo topic > topic; git add topic; git commit -qm topic; git checkout -q main; git merge -q -m merge topic
git log --oneline --graph --format=%s; git rev-parse HEAD; git diff HEAD~1 --stat | tail -1; git blame -s d1/f1 | wc -l
git gc -q; git fsck 2>/dev/null; git count-objects -v | grep -E 'count|packs'; cd ..
git clone -q repo clone; cd clone; git rev-parse HEAD; git ls-files | wc -l; git branch -a | tr -d ' '; echo push > p; git add p; git commit -qm push
git push -q origin HEAD:refs/heads/pushed; cd ../repo; git log -1 --format=%s pushed; git stash list; git tag v1; git describe --tags
git archive HEAD | sha256sum; git grep -c topic; git worktree add -q ../tree v1; ls ../tree | wc -l
