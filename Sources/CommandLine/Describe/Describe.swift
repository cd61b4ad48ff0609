import API
import ArgumentParser
import Base
import ObjectModel

struct Describe: ClusterCommand {
  static let configuration = CommandConfiguration(abstract: "Print all of an object, and what happened to it.")
  @OptionGroup var globals: GlobalOptions
  @Option(name: [.customShort("l"), .customLong("selector")], help: "Label selector.") var selector = ""
  @Argument(help: "TYPE [NAME…] or TYPE/NAME….") var resources: [String]

  func execute(_ environment: Environment) async throws {
    var isFirst = true
    for target in try ResourceArguments(resources, environment).targets {
      let kind = try environment.kind(target.resource)
      var objects: [Object] = []
      if let name = target.name {
        objects = [try await environment.get(environment.reference(kind, name))]
      } else {
        objects = try await environment.listAll(
          kind, namespace: environment.namespace(of: kind), labels: selector
        ).objects
        if objects.isEmpty { environment.console.note("No resources found") }
      }
      for object in objects {
        if !isFirst { environment.console.print("\n") }
        isFirst = false
        environment.console.printText(try await text(object, kind, environment))
      }
    }
  }

  /// What kubectl prints for the kinds that are looked at most; all fields of the others.
  @LoopActor private func text(_ object: Object, _ kind: Kind, _ environment: Environment) async throws -> String {
    let (events, now) = (try await events(of: object, environment), environment.now)
    switch kind.resource {
    case Pod.resource: return PodDescription.text(Pod(object), events: events, now: now)
    case Deployment.resource:
      let deployment = Deployment(object)
      let listed = try await environment.listAll(
        .replicaSet, namespace: object.namespace, labels: deployment.selector?.description ?? "")
      let sets = listed.objects.filter { $0.controllerReference?.uid == object.uid }.map(ReplicaSet.init)
      return DeploymentDescription.text(deployment, sets: sets, events: events, now: now)
    case Node.resource:
      let pods = try await environment.listAll(.pod, namespace: "", fields: "spec.nodeName=\(object.name)")
      let lease = try await environment.listAll(
        .lease, namespace: Lease.nodeNamespace, fields: "metadata.name=\(object.name)")
      return NodeDescription.text(
        Node(object), pods: pods.objects.map(Pod.init), lease: lease.objects.first, events: events, now: now)
    default: return Description.text(object, kind: kind, events: events, now: now)
    }
  }

  @LoopActor private func events(of object: Object, _ environment: Environment) async throws -> [Event] {
    let selector = "involvedObject.kind=\(object.kind),involvedObject.name=\(object.name)"
    let namespace = object.namespace.isEmpty ? "" : object.namespace
    let listed = try await environment.listAll(.event, namespace: namespace, fields: selector)
    return listed.objects.map(Event.init).filter { $0.involved["uid"].string ?? object.uid == object.uid }
      .sorted { ($0.lastTimestamp ?? "") < ($1.lastTimestamp ?? "") }
  }
}

/// An object as indented lines, its events below.
enum Description {
  static func text(_ object: Object, kind: Kind, events: [Event], now: WallTime) -> String {
    var out = line("Name", object.name, 0)
    if kind.isNamespaced { out += line("Namespace", object.namespace, 0) }
    out += map("Labels", object.labels)
    out += map("Annotations", object.annotations.filter { $0.key != Applier.annotationKey })
    out += line("Kind", "\(object.apiVersion) \(object.kind)", 0)
    out += line(
      "Created", "\(object.creationTimestamp) (\(HumanDuration.age(of: object.creationTimestamp, now: now)) ago)", 0)
    if let owner = object.controllerReference { out += line("Controlled By", "\(owner.kind)/\(owner.name)", 0) }
    if let deletion = object.deletionTimestamp { out += line("Being deleted", "since \(deletion)", 0) }
    for (key, value) in object.value.object ?? [:] where !["apiVersion", "kind", "metadata"].contains(key) {
      // Values of a Secret are not for the screen.
      let shown = kind.resource == Secret.resource && key == "data" ? hidden(value) : value
      out += "\(title(key)):\(tree(shown, 2))\n"
    }
    return out + table(events, now)
  }

  private static func hidden(_ data: Value) -> Value {
    .object(
      Value.Fields(
        (data.object ?? [:]).map { key, value in
          (key, .string("\(Base64.decode(value.string ?? "")?.count ?? 0) bytes"))
        }))
  }

  private static func line(_ name: String, _ value: String, _ indent: Int) -> String {
    let label = String(repeating: " ", count: indent) + name + ":"
    return label + String(repeating: " ", count: max(1, 16 - label.count)) + (value.isEmpty ? "<none>" : value) + "\n"
  }

  private static func map(_ name: String, _ map: [String: String]) -> String {
    guard !map.isEmpty else { return line(name, "<none>", 0) }
    var out = ""
    for (index, member) in map.sorted(by: { $0.key < $1.key }).enumerated() {
      let text = "\(member.key)=\(member.value)"
      out += index == 0 ? line(name, text, 0) : String(repeating: " ", count: 16) + text + "\n"
    }
    return out
  }

  private static func title(_ key: String) -> String { key.prefix(1).uppercased() + key.dropFirst() }

  private static func tree(_ value: Value, _ indent: Int) -> String {
    let text = YAMLPrinter.print(value)
    switch value {
    case .object(let fields) where !fields.isEmpty: break
    case .array(let values) where !values.isEmpty: break
    default: return " " + String(text.dropLast())
    }
    let margin = "\n" + String(repeating: " ", count: indent)
    return text.dropLast().split(separator: "\n", omittingEmptySubsequences: false).map { margin + $0 }.joined()
  }

  private static func table(_ events: [Event], _ now: WallTime) -> String {
    guard !events.isEmpty else { return line("Events", "<none>", 0) }
    var table = Table(["Type", "Reason", "Age", "From", "Message"])
    table.rows = events.map { event in
      let age = HumanDuration.age(of: event.lastTimestamp, now: now)
      return [
        event.type, event.reason, event.count > 1 ? "\(age) (x\(event.count))" : age, event.source, event.message,
      ]
    }
    return "Events:\n" + table.text().split(separator: "\n").map { "  \($0)\n" }.joined()
  }
}

extension Applier {
  nonisolated static var annotationKey: String { "kubectl.kubernetes.io/last-applied-configuration" }
}
