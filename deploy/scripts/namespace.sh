#!/bin/sh
# Makes the namespace and Entrepot's search attributes. Both may be there already.
set -eu

temporal operator namespace describe --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1 ||
  temporal operator namespace create --namespace "$TEMPORAL_NAMESPACE" --retention "$RETENTION"

# A new namespace is not known to all of the server at once.
tries=0
until temporal operator search-attribute list --namespace "$TEMPORAL_NAMESPACE" >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ "$tries" -lt 60 ] || { echo "the namespace $TEMPORAL_NAMESPACE cannot be used" >&2; exit 1; }
  sleep 1
done

for name in Tenant Pipeline Environment Backend Stage Outcome Cause; do
  temporal operator search-attribute create --namespace "$TEMPORAL_NAMESPACE" --name "$name" --type Keyword
done
