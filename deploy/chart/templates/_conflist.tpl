{{- define "tortie.conflist" -}}
{
  "name": "tortie",
  "cniVersion": "1.0.0",
  "cniVersions": ["1.0.0", "1.1.0"],
  "plugins": [
    {
      "type": "tortie-cni",
      {{- if .Values.cni.mtu }}
      "mtu": {{ int .Values.cni.mtu }},
      {{- end }}
      "ipam": {"type": "host-local", "subnet": "usePodCidr"},
      "capabilities": {"portMappings": true}
    }
  ]
}
{{- end }}
{{- define "tortie.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}
