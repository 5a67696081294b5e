# Sourced by the scripts beside it: which container engine there is.

# Say in one line what is missing, and end with the exit code of what cannot be used.
give_up() {
  echo "${0##*/}: $*" >&2
  exit 2
}

# Set `engine` to what ENGINE says, else to the first of docker and podman that answers.
find_engine() {
  local candidate
  for candidate in ${ENGINE:-docker podman}; do
    case $candidate in docker | podman) ;; *) give_up "ENGINE is '$candidate'; it can be docker or podman" ;; esac
    if "$candidate" info >/dev/null 2>&1; then
      engine=$candidate
      return
    fi
  done
  give_up "no container engine answers (tried: ${ENGINE:-docker, podman}); install podman, or start Docker's daemon"
}
