import Base
import ObjectModel
import Testing

@testable import CommandLine

/// Against the layout that kubectl 1.32 prints, column by column.
@Suite struct DescribeTests {
  private let now = WallTime(seconds: 1_795_420_800)  // 2026-11-23T08:00:00Z

  private func event(_ reason: String, _ message: String, count: Int64 = 1, kind: String = "Pod") -> Event {
    Event(
      Object([
        "type": reason == "BackOff" ? "Warning" : "Normal", "reason": .string(reason), "message": .string(message),
        "count": .int(count), "firstTimestamp": "2026-11-23T07:50:00Z", "lastTimestamp": "2026-11-23T07:59:30Z",
        "source": ["component": "edgecore"], "involvedObject": ["kind": .string(kind)],
      ]))
  }

  @Test func datesAreWrittenOut() {
    #expect(TabbedText.date("2026-11-23T08:00:00Z") == "Mon, 23 Nov 2026 08:00:00 +0000")
    #expect(TabbedText.date("1970-01-01T00:00:00Z") == "Thu, 01 Jan 1970 00:00:00 +0000")
    #expect(TabbedText.date("2024-02-29T23:59:59+01:00") == "Thu, 29 Feb 2024 22:59:59 +0000")
    #expect(TabbedText.date(nil) == "<unset>")
  }

  @Test func columnsAreRunsOfLines() {
    var text = TabbedText()
    text.line(0, "a:", "1")
    text.line(0, "longer:", "2")
    text.line(0, "alone")
    text.line(1, "b:", "x", "y")
    text.line(1, "c:", "long", "z")
    #expect(text.text == "a:       1\nlonger:  2\nalone\n  b:  x     y\n  c:  long  z\n")
  }

  @Test func aPod() throws {
    let pod = Pod(
      Object(
        try JSON.parse(
          """
          {"metadata":{"name":"web-1","namespace":"default","uid":"u","creationTimestamp":"2026-11-23T07:00:00Z",
            "labels":{"app":"web","tier":"front"},
            "ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"r","controller":true}]},
           "spec":{"nodeName":"n1","restartPolicy":"Always","nodeSelector":{"disk":"ssd"},
            "tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute",
              "tolerationSeconds":300},{"key":"k","value":"v"}],
            "volumes":[{"name":"c","configMap":{"name":"conf"}},{"name":"tmp","emptyDir":{}}],
            "containers":[{"name":"main","image":"web:1","command":["sh","-c","sleep 1\\nexit"],
              "ports":[{"containerPort":80,"protocol":"TCP"}],
              "resources":{"limits":{"memory":"64Mi"},"requests":{"cpu":"100m","memory":"32Mi"}},
              "livenessProbe":{"httpGet":{"path":"/","port":80},"periodSeconds":5},
              "env":[{"name":"A","value":"b"},
                {"name":"S","valueFrom":{"secretKeyRef":{"name":"s","key":"k","optional":true}}},
                {"name":"IP","valueFrom":{"fieldRef":{"fieldPath":"status.podIP"}}}],
              "volumeMounts":[{"name":"tmp","mountPath":"/tmp"},
                {"name":"c","mountPath":"/etc/c","readOnly":true,"subPath":"x"}]}]},
           "status":{"phase":"Running","podIP":"10.1.0.5","hostIP":"10.0.0.1","startTime":"2026-11-23T07:00:01Z",
            "qosClass":"Burstable",
            "conditions":[{"type":"Ready","status":"True"},{"type":"PodScheduled","status":"True"}],
            "containerStatuses":[{"name":"main","containerID":"oci://abc","imageID":"sha256:1","ready":true,
              "restartCount":2,"state":{"running":{"startedAt":"2026-11-23T07:30:00Z"}},
              "lastState":{"terminated":{"exitCode":1,"reason":"Error","startedAt":"2026-11-23T07:10:00Z",
                "finishedAt":"2026-11-23T07:29:00Z"}}}]}}
          """)))
    let text = PodDescription.text(
      pod, events: [event("Started", "Started container main"), event("BackOff", "again", count: 3)], now: now)
    #expect(
      text == """
        Name:             web-1
        Namespace:        default
        Priority:         0
        Service Account:  default
        Node:             n1/10.0.0.1
        Start Time:       Mon, 23 Nov 2026 07:00:01 +0000
        Labels:           app=web
                          tier=front
        Annotations:      <none>
        Status:           Running
        IP:               10.1.0.5
        IPs:
          IP:           10.1.0.5
        Controlled By:  ReplicaSet/web
        Containers:
          main:
            Container ID:  oci://abc
            Image:         web:1
            Image ID:      sha256:1
            Port:          80/TCP
            Host Port:     0/TCP
            Command:
              sh
              -c
              sleep 1
              exit
            State:          Running
              Started:      Mon, 23 Nov 2026 07:30:00 +0000
            Last State:     Terminated
              Reason:       Error
              Exit Code:    1
              Started:      Mon, 23 Nov 2026 07:10:00 +0000
              Finished:     Mon, 23 Nov 2026 07:29:00 +0000
            Ready:          True
            Restart Count:  2
            Limits:
              memory:  64Mi
            Requests:
              cpu:     100m
              memory:  32Mi
            Liveness:  http-get http://:80/ delay=0s timeout=1s period=5s #success=1 #failure=3
            Environment:
              A:   b
              S:   <set to the key 'k' of secret 's'>  Optional: true
              IP:   (v1:status.podIP)
            Mounts:
              /etc/c from c (ro,path="x")
              /tmp from tmp (rw)
        Conditions:
          Type          Status
          Ready         True
          PodScheduled  True
        Volumes:
          c:
            Type:      ConfigMap (a volume populated by a ConfigMap)
            Name:      conf
            Optional:  false
          tmp:
            Type:        EmptyDir (a temporary directory that shares a pod's lifetime)
            Medium:      \("")
            SizeLimit:   <unset>
        QoS Class:       Burstable
        Node-Selectors:  disk=ssd
        Tolerations:     node.kubernetes.io/not-ready:NoExecute op=Exists for 300s
                         k=v
        Events:
          Type     Reason   Age                From      Message
          ----     ------   ---                ----      -------
          Normal   Started  30s                edgecore  Started container main
          Warning  BackOff  30s (x3 over 10m)  edgecore  again

        """)
  }

  @Test func aPodThatWaitsAndOneThatGoes() {
    var object = Object([
      "metadata": ["name": "p", "namespace": "d", "uid": "u", "creationTimestamp": "2026-11-23T07:00:00Z"],
      "spec": ["containers": [["name": "c", "image": "i"]]],
      "status": [
        "phase": "Pending",
        "containerStatuses": [
          [
            "name": "c", "ready": false, "restartCount": 0,
            "state": ["waiting": ["reason": "ErrImagePull", "message": "no such image"]],
          ]
        ],
      ],
    ])
    var text = PodDescription.text(Pod(object), events: [], now: now)
    for line in [
      "Node:             <none>\n", "IPs:              <none>\n", "    State:          Waiting\n",
      "      Reason:       ErrImagePull\n", "      Message:      no such image\n", "    Port:           <none>\n",
      "    Environment:    <none>\n", "    Mounts:         <none>\n", "Volumes:            <none>\n",
      "Node-Selectors:     <none>\n",
    ] { #expect(text.contains(line), "\(line)\n\(text)") }
    #expect(text.contains("QoS Class:") && text.hasSuffix("<none>\n"))
    object.metadata["deletionTimestamp"] = "2026-11-23T07:59:00Z"
    object.metadata["deletionGracePeriodSeconds"] = 30
    text = PodDescription.text(Pod(object), events: [], now: now)
    #expect(text.contains("Terminating (lasts 60s)\n") && text.contains("Termination Grace Period:  30s\n"))
  }

  @Test func aDeployment() throws {
    let deployment = Deployment(
      Object(
        try JSON.parse(
          """
          {"metadata":{"name":"web","namespace":"default","uid":"d","creationTimestamp":"2026-11-23T07:00:00Z",
            "labels":{"app":"web"},"annotations":{"deployment.kubernetes.io/revision":"2"}},
           "spec":{"replicas":3,"selector":{"matchLabels":{"app":"web"}},
            "strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":"25%","maxUnavailable":1}},
            "template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"web:2"}]}}},
           "status":{"replicas":4,"updatedReplicas":2,"availableReplicas":3,"unavailableReplicas":1,
            "conditions":[{"type":"Available","status":"True","reason":"MinimumReplicasAvailable"},
             {"type":"Progressing","status":"True","reason":"ReplicaSetUpdated"}]}}
          """)))
    func set(_ name: String, _ revision: String, _ wanted: Int64, _ made: Int64) -> ReplicaSet {
      ReplicaSet(
        Object([
          "metadata": [
            "name": .string(name), "uid": .string(name),
            "annotations": ["deployment.kubernetes.io/revision": .string(revision)],
          ], "spec": ["replicas": .int(wanted)], "status": ["replicas": .int(made)],
        ]))
    }
    let sets = [set("web-1", "1", 2, 2), set("web-0", "0", 0, 0), set("web-2", "2", 2, 2)]
    #expect(
      DeploymentDescription.text(deployment, sets: sets, events: [], now: now) == """
        Name:                   web
        Namespace:              default
        CreationTimestamp:      Mon, 23 Nov 2026 07:00:00 +0000
        Labels:                 app=web
        Annotations:            deployment.kubernetes.io/revision: 2
        Selector:               app=web
        Replicas:               3 desired | 2 updated | 4 total | 3 available | 1 unavailable
        StrategyType:           RollingUpdate
        MinReadySeconds:        0
        RollingUpdateStrategy:  1 max unavailable, 25% max surge
        Pod Template:
          Labels:  app=web
          Containers:
            c:
              Image:        web:2
              Port:         <none>
              Host Port:    <none>
              Environment:  <none>
              Mounts:       <none>
          Volumes:          <none>
          Node-Selectors:   <none>
          Tolerations:      <none>
        Conditions:
          Type           Status  Reason
          ----           ------  ------
          Available      True    MinimumReplicasAvailable
          Progressing    True    ReplicaSetUpdated
        OldReplicaSets:  web-1 (2/2 replicas created)
        NewReplicaSet:   web-2 (2/2 replicas created)
        Events:          <none>

        """)
  }

  @Test func aNode() throws {
    let node = Node(
      Object(
        try JSON.parse(
          """
          {"metadata":{"name":"n1","uid":"n","creationTimestamp":"2026-11-23T07:00:00Z",
            "labels":{"kubernetes.io/arch":"amd64"}},
           "spec":{"taints":[{"key":"k","value":"v","effect":"NoSchedule"},{"key":"gone","effect":"NoExecute"}]},
           "status":{"capacity":{"cpu":"2","memory":"4Gi","pods":"110"},
            "allocatable":{"cpu":"2","memory":"4Gi","pods":"110"},
            "addresses":[{"type":"InternalIP","address":"10.0.0.1"}],
            "conditions":[{"type":"Ready","status":"True","reason":"KubeletReady","message":"ready",
              "lastHeartbeatTime":"2026-11-23T07:59:00Z","lastTransitionTime":"2026-11-23T07:00:10Z"}],
            "nodeInfo":{"architecture":"amd64","kernelVersion":"6.1"}}}
          """)))
    func pod(_ name: String, _ phase: String, _ cpu: String) -> Pod {
      Pod(
        Object([
          "metadata": [
            "name": .string(name), "namespace": "default", "creationTimestamp": "2026-11-23T07:55:00Z",
          ],
          "spec": [
            "containers": [
              ["name": "c", "resources": ["requests": ["cpu": .string(cpu)], "limits": ["memory": "1Gi"]]]
            ]
          ], "status": ["phase": .string(phase)],
        ]))
    }
    let lease = Object(["spec": ["holderIdentity": "n1", "renewTime": "2026-11-23T07:59:55.000000Z"]])
    let text = NodeDescription.text(
      node, pods: [pod("b", "Running", "500m"), pod("a", "Running", "250m"), pod("done", "Succeeded", "1")],
      lease: lease, events: [], now: now)
    for part in [
      "Name:               n1\nRoles:              <none>\nLabels:             kubernetes.io/arch=amd64\n",
      "Taints:             k=v:NoSchedule\n                    gone:NoExecute\nUnschedulable:      false\nLease:\n",
      "  HolderIdentity:  n1\n  AcquireTime:     <unset>\n  RenewTime:       Mon, 23 Nov 2026 07:59:55 +0000\n",
      "Conditions:\n  Type   Status  LastHeartbeatTime                LastTransitionTime               Reason        Message\n",
      "  Ready  True    Mon, 23 Nov 2026 07:59:00 +0000  Mon, 23 Nov 2026 07:00:10 +0000  KubeletReady  ready\n",
      "Addresses:\n  InternalIP:  10.0.0.1\nCapacity:\n  cpu:     2\n  memory:  4Gi\n  pods:    110\nAllocatable:\n",
      "  Kernel Version:             6.1\n",
      "Non-terminated Pods:          (2 in total)\n",
      "  Namespace                   Name  CPU Requests  CPU Limits  Memory Requests  Memory Limits  Age\n",
      "  default                     a     250m (12%)    0 (0%)      1Gi (25%)        1Gi (25%)      5m\n",
      "  default                     b     500m (25%)    0 (0%)      1Gi (25%)        1Gi (25%)      5m\n",
      "  Resource  Requests    Limits\n  --------  --------    ------\n  cpu       750m (37%)  0 (0%)\n",
      "  memory    2Gi (50%)   2Gi (50%)\nEvents:     <none>\n",
    ] { #expect(text.contains(part), "\(part)\n----\n\(text)") }
    #expect(!text.contains("done"))
  }
}
