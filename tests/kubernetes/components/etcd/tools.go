//go:build tools

// Package tools pins the etcd that scripts/kubernetes.sh builds. Nothing here is compiled into Tortie.
package tools

import _ "go.etcd.io/etcd/server/v3"
