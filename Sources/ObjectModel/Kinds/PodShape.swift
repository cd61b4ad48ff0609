import Base

/// Types of the fields of a pod's spec that the system reads.
enum PodShape {
  private static let handler: Shape.Members = [
    "exec": .object(["command": .strings]),
    "httpGet": .object([
      "path": .string, "port": .intOrString, "host": .string, "scheme": .string,
      "httpHeaders": .list(.object(["name": .string, "value": .string])),
    ]),
    "tcpSocket": .object(["port": .intOrString, "host": .string]),
    "grpc": .object(["port": .int, "service": .string]), "sleep": .object(["seconds": .int]),
  ]
  private static let probe = Shape.object(
    handler.and([
      "initialDelaySeconds": .int, "timeoutSeconds": .int, "periodSeconds": .int, "successThreshold": .int,
      "failureThreshold": .int, "terminationGracePeriodSeconds": .int,
    ]))
  private static let reference: Shape.Members = ["name": .string, "key": .string, "optional": .bool]
  private static let env = Shape.object([
    "name": .string, "value": .string,
    "valueFrom": .object([
      "configMapKeyRef": .object(reference), "secretKeyRef": .object(reference),
      "fieldRef": .object(["apiVersion": .string, "fieldPath": .string]),
      "resourceFieldRef": .object(["containerName": .string, "resource": .string, "divisor": .quantity]),
    ]),
  ])
  private static let envFrom = Shape.object([
    "prefix": .string, "configMapRef": .object(["name": .string, "optional": .bool]),
    "secretRef": .object(["name": .string, "optional": .bool]),
  ])
  private static let containerSecurity = Shape.object([
    "privileged": .bool, "runAsUser": .int, "runAsGroup": .int, "runAsNonRoot": .bool, "readOnlyRootFilesystem": .bool,
    "allowPrivilegeEscalation": .bool, "capabilities": .object(["add": .strings, "drop": .strings]),
    "procMount": .string, "seccompProfile": .object(["type": .string, "localhostProfile": .string]),
  ])
  private static let container = Shape.object([
    "name": .string, "image": .string, "imagePullPolicy": .string, "command": .strings, "args": .strings,
    "workingDir": .string, "env": .list(env), "envFrom": .list(envFrom), "restartPolicy": .string,
    "ports": .list(
      .object([
        "name": .string, "containerPort": .int, "hostPort": .int, "hostIP": .string, "protocol": .string,
      ])),
    "resources": .object(["requests": .quantities, "limits": .quantities]),
    "volumeMounts": .list(
      .object([
        "name": .string, "mountPath": .string, "subPath": .string, "subPathExpr": .string, "readOnly": .bool,
        "mountPropagation": .string,
      ])),
    "livenessProbe": probe, "readinessProbe": probe, "startupProbe": probe,
    "lifecycle": .object(["preStop": .object(handler), "postStart": .object(handler)]),
    "securityContext": containerSecurity, "stdin": .bool, "stdinOnce": .bool, "tty": .bool,
    "terminationMessagePath": .string, "terminationMessagePolicy": .string,
  ])
  private static let items = Shape.list(.object(["key": .string, "path": .string, "mode": .int]))
  private static let configMap: Shape.Members = [
    "name": .string, "items": items, "defaultMode": .int, "optional": .bool,
  ]
  private static let secret: Shape.Members = [
    "name": .string, "secretName": .string, "items": items, "defaultMode": .int, "optional": .bool,
  ]
  private static let downward: Shape.Members = ["items": .list(.object(["path": .string, "mode": .int]))]
  private static let volume = Shape.object([
    "name": .string, "emptyDir": .object(["medium": .string, "sizeLimit": .quantity]),
    "hostPath": .object(["path": .string, "type": .string]), "configMap": .object(configMap),
    "secret": .object(secret), "downwardAPI": .object(downward),
    "projected": .object([
      "defaultMode": .int,
      "sources": .list(
        .object([
          "configMap": .object(configMap), "secret": .object(secret), "downwardAPI": .object(downward),
          "serviceAccountToken": .object(["path": .string, "audience": .string, "expirationSeconds": .int]),
        ])),
    ]),
  ])
  private static let nodeTerm = Shape.object([
    "matchExpressions": .list(.object(["key": .string, "operator": .string, "values": .strings])),
    "matchFields": .list(.object(["key": .string, "operator": .string, "values": .strings])),
  ])
  private static let affinity = Shape.object([
    "nodeAffinity": .object([
      "requiredDuringSchedulingIgnoredDuringExecution": .object(["nodeSelectorTerms": .list(nodeTerm)]),
      "preferredDuringSchedulingIgnoredDuringExecution": .list(.object(["weight": .int, "preference": nodeTerm])),
    ]),
    "podAffinity": podAffinity, "podAntiAffinity": podAffinity,
  ])
  private static let podTerm = Shape.object([
    "labelSelector": .selector, "namespaceSelector": .selector, "namespaces": .strings, "topologyKey": .string,
    "matchLabelKeys": .strings, "mismatchLabelKeys": .strings,
  ])
  private static let podAffinity = Shape.object([
    "requiredDuringSchedulingIgnoredDuringExecution": .list(podTerm),
    "preferredDuringSchedulingIgnoredDuringExecution": .list(
      .object(["weight": .int, "podAffinityTerm": podTerm])),
  ])
  private static let spread = Shape.list(
    .object([
      "labelSelector": .selector, "topologyKey": .string, "maxSkew": .int, "minDomains": .int,
      "whenUnsatisfiable": .string, "nodeAffinityPolicy": .string, "nodeTaintsPolicy": .string,
      "matchLabelKeys": .strings,
    ]))
  private static let security = Shape.object([
    "runAsUser": .int, "runAsGroup": .int, "runAsNonRoot": .bool, "fsGroup": .int, "supplementalGroups": .list(.int),
    "sysctls": .list(.object(["name": .string, "value": .string])),
    "seccompProfile": .object(["type": .string, "localhostProfile": .string]),
  ])

  static let spec = Shape.object([
    "containers": .list(container), "initContainers": .list(container), "volumes": .list(volume),
    "restartPolicy": .string, "terminationGracePeriodSeconds": .int, "activeDeadlineSeconds": .int,
    "dnsPolicy": .string, "nodeSelector": .stringMap, "serviceAccountName": .string, "serviceAccount": .string,
    "automountServiceAccountToken": .bool, "nodeName": .string, "hostNetwork": .bool, "hostPID": .bool,
    "hostIPC": .bool, "shareProcessNamespace": .bool, "securityContext": security,
    "imagePullSecrets": .list(.object(["name": .string])), "hostname": .string, "subdomain": .string,
    "affinity": affinity, "topologySpreadConstraints": spread, "schedulerName": .string, "priority": .int,
    "priorityClassName": .string,
    "enableServiceLinks": .bool, "preemptionPolicy": .string, "overhead": .quantities,
    "tolerations": .list(
      .object([
        "key": .string, "operator": .string, "value": .string, "effect": .string, "tolerationSeconds": .int,
      ])),
    "hostAliases": .list(.object(["ip": .string, "hostnames": .strings])),
  ])

  static let template = Shape.object(["metadata": .metadata, "spec": spec])

  static let status = Shape.object([
    "phase": .string, "conditions": .conditions, "podIP": .string, "hostIP": .string, "startTime": .string,
    "reason": .string, "message": .string, "qosClass": .string, "containerStatuses": .list(.object(["name": .string])),
    "initContainerStatuses": .list(.object(["name": .string])),
  ])
}
