{{/* A service's pods: (dict "root" $ "component" "vision" "settings" (dict ...)). Settings here are those that differ. */}}
{{- define "internvl.deployment" -}}
{{- $root := .root }}
{{- $component := .component }}
{{- $values := get $root.Values $component }}
{{- $isModel := ne $component "gateway" }}
{{- $settings := mustMergeOverwrite (include "internvl.commonSettings" . | fromJson) .settings }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ include "internvl.name" $root }}-{{ $component }}
  labels:
    {{- include "internvl.labels" . | nindent 4 }}
spec:
  {{- if not $values.autoscaling.enabled }}
  replicas: {{ $values.replicas }}
  {{- end }}
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  selector:
    matchLabels:
      {{- include "internvl.selector" . | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "internvl.labels" . | nindent 8 }}
      {{- with $values.podAnnotations }}
      annotations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      # Else Kubernetes sets INTERNVL_VISION_PORT and the like for the services next door, which are settings here.
      enableServiceLinks: false
      automountServiceAccountToken: false
      {{- with $root.Values.serviceAccount.name }}
      serviceAccountName: {{ . }}
      {{- end }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      terminationGracePeriodSeconds: {{ add $root.Values.drainSeconds 15 }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 10001
        runAsGroup: 10001
        fsGroup: 10001
        seccompProfile: {type: RuntimeDefault}
      {{- if and $isModel $root.Values.model.volume.download.enabled }}
      initContainers:
        - name: download
          image: {{ include "internvl.image" $values.image }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          command: [hf, download, {{ $root.Values.model.name | quote }}, --local-dir, /models/checkpoint]
          {{- with $root.Values.model.revision }}
          args: [--revision, {{ . | quote }}]
          {{- end }}
          env:
            - name: HF_HOME
              value: /models/hub
            {{- with $root.Values.model.volume.download.tokenSecret }}
            - name: HF_TOKEN
              valueFrom: {secretKeyRef: {name: {{ . }}, key: token}}
            {{- end }}
          securityContext:
            {{- include "internvl.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            - {name: models, mountPath: /models}
            - {name: tmp, mountPath: /tmp}
      {{- end }}
      containers:
        - name: {{ $component }}
          image: {{ include "internvl.image" $values.image }}
          imagePullPolicy: {{ $values.image.pullPolicy }}
          ports:
            - {name: grpc, containerPort: {{ include "internvl.port" $component }}}
            {{- if $settings.http_port }}
            - {name: http, containerPort: {{ $settings.http_port }}}
            {{- end }}
            - {name: metrics, containerPort: 9090}
          env:
            {{- range $name, $value := mustMergeOverwrite (deepCopy $values.settings) $settings }}
            {{- include "internvl.variable" (dict "component" $component "name" $name "value" $value) | nindent 12 }}
            {{- end }}
            {{- if eq $component "vision" }}
            - name: INTERNVL_VISION_ADVERTISED_HOST
              valueFrom: {fieldRef: {fieldPath: status.podIP}}
            {{- end }}
            {{- if $isModel }}
            - name: INTERNVL_{{ upper $component }}_REDIS_URL
              {{- if $root.Values.redis.urlSecret }}
              valueFrom: {secretKeyRef: {name: {{ $root.Values.redis.urlSecret }}, key: url}}
              {{- else }}
              value: redis://{{ include "internvl.name" $root }}-redis:6379/0
              {{- end }}
            {{- end }}
          # A pod is taken out of the addresses while it sleeps, so that nobody calls one that drains.
          lifecycle:
            preStop:
              exec:
                command: [sleep, "5"]
          startupProbe:
            {{- include "internvl.probe" (dict "root" $root "component" $component "service" ($isModel | ternary "" "liveness")) | nindent 12 }}
            periodSeconds: 5
            timeoutSeconds: 6
            failureThreshold: {{ div $values.startupSeconds 5 }}
          readinessProbe:
            {{- include "internvl.probe" (dict "root" $root "component" $component "service" "") | nindent 12 }}
            periodSeconds: 5
            timeoutSeconds: 6
            failureThreshold: 2
          # A gateway whose model services are gone is not ready, and none the better for a restart.
          livenessProbe:
            {{- include "internvl.probe" (dict "root" $root "component" $component "service" ($isModel | ternary "" "liveness")) | nindent 12 }}
            periodSeconds: 10
            timeoutSeconds: 6
            failureThreshold: 6
          resources:
            {{- include "internvl.resources" $values | nindent 12 }}
          securityContext:
            {{- include "internvl.containerSecurity" $root | nindent 12 }}
          volumeMounts:
            - {name: tmp, mountPath: /tmp}
            {{- if $isModel }}
            - {name: models, mountPath: /models, readOnly: true}
            {{- end }}
            {{- if eq $component "llm" }}
            - {name: shared-memory, mountPath: /dev/shm}
            {{- end }}
            {{- if $root.Values.internalTls.secret }}
            - {name: internal-tls, mountPath: /etc/internvl/tls, readOnly: true}
            {{- end }}
            {{- if and $isModel $root.Values.redis.urlSecret }}
            - {name: redis, mountPath: /etc/internvl/redis, readOnly: true}
            {{- end }}
            {{- if and (not $isModel) $values.keySecret }}
            - {name: keys, mountPath: /etc/internvl/keys, readOnly: true}
            {{- end }}
            {{- if and (not $isModel) $values.tlsSecret }}
            - {name: public-tls, mountPath: /etc/internvl/public, readOnly: true}
            {{- end }}
      volumes:
        - name: tmp
          emptyDir: {}
        {{- if $isModel }}
        - name: models
          {{- with $root.Values.model.volume.existingClaim }}
          persistentVolumeClaim:
            claimName: {{ . }}
            readOnly: {{ not $root.Values.model.volume.download.enabled }}
          {{- else }}
          emptyDir: {}
          {{- end }}
        {{- end }}
        {{- if eq $component "llm" }}
        # What the ranks of tensor parallelism exchange through.
        - name: shared-memory
          emptyDir:
            medium: Memory
            sizeLimit: {{ add 1 (mul 2 (max 1 $values.gpus)) }}Gi
        {{- end }}
        {{- if $root.Values.internalTls.secret }}
        - name: internal-tls
          secret: {secretName: {{ $root.Values.internalTls.secret }}, defaultMode: 0440}
        {{- end }}
        {{- if and $isModel $root.Values.redis.urlSecret }}
        - name: redis
          secret:
            secretName: {{ $root.Values.redis.urlSecret }}
            defaultMode: 0440
            items: [{key: ca.crt, path: ca.crt}]
            optional: true
        {{- end }}
        {{- if and (not $isModel) $values.keySecret }}
        - name: keys
          secret: {secretName: {{ $values.keySecret }}, defaultMode: 0440}
        {{- end }}
        {{- if and (not $isModel) $values.tlsSecret }}
        - name: public-tls
          secret: {secretName: {{ $values.tlsSecret }}, defaultMode: 0440}
        {{- end }}
      topologySpreadConstraints:
        {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
        - maxSkew: 1
          topologyKey: {{ . }}
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels:
              {{- include "internvl.selector" $ | nindent 14 }}
        {{- end }}
      {{- range $field := list "nodeSelector" "tolerations" "affinity" }}
      {{- with get $values $field }}
      {{ $field }}:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
{{- end }}

{{- define "internvl.image" -}}
{{ printf "%s:%s" .repository (.tag | default "0.1.0") | quote }}
{{- end }}

{{- define "internvl.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The GPUs of the pod, and what the operator says of the rest. */}}
{{- define "internvl.resources" -}}
{{- $resources := deepCopy .resources }}
{{- if .gpus }}
{{- $limits := merge (dict .gpuResource .gpus) ($resources.limits | default dict) }}
{{- $_ := set $resources "limits" $limits }}
{{- end }}
{{- toYaml $resources }}
{{- end }}

{{/* Addresses of every ready pod, for clients that balance themselves. */}}
{{- define "internvl.headlessService" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "internvl.name" .root }}-{{ .component }}
  labels:
    {{- include "internvl.labels" . | nindent 4 }}
spec:
  clusterIP: None
  selector:
    {{- include "internvl.selector" . | nindent 4 }}
  ports:
    - {name: grpc, port: {{ include "internvl.port" .component }}, targetPort: grpc, appProtocol: grpc}
{{- end }}
