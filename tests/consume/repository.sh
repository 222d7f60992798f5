#!/bin/sh
# Makes a git repository, branch main, with what of the source a project needs that fetches it.
# Usage: repository.sh SOURCE_FOLDER REPOSITORY
set -eu
source=$1 repository=$2
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE || :
mkdir -p "$repository"
cp -R "$source/tpool.h" "$source/LICENSE" "$source/meson.build" "$source/meson_options.txt" "$source/.packaging" \
    "$repository"
cd "$repository"
git init -q
git symbolic-ref HEAD refs/heads/main
git add -A
git -c user.name=test -c user.email=test@localhost -c commit.gpgsign=false commit -q -m "what is to be fetched"
