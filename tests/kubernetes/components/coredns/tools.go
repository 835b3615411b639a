//go:build tools

// Package tools pins what scripts/kubernetes.sh builds. Nothing here is compiled into Tortie.
package tools

import _ "github.com/coredns/coredns"
