import API
import ArgumentParser
import Base
import ObjectModel

/// Which objects of a kind, and how they are shown.
struct ListingOptions: ParsableArguments, Sendable {
  @Flag(name: [.customShort("A"), .long], help: "All namespaces.") var allNamespaces = false
  @Option(name: [.customShort("l"), .customLong("selector")], help: "Label selector, such as app=web,tier!=db.")
  var selector = ""
  @Option(name: .long, help: "Field selector, such as spec.nodeName=n1.") var fieldSelector = ""
  @Option(name: [.customShort("o"), .long], help: "wide, json, yaml or name.") var output: String?
  @Flag(name: .long, help: "Leave the header out.") var noHeaders = false
  @Flag(name: .long, help: "Add a column of labels.") var showLabels = false
}

struct Get: ClusterCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print objects.",
    discussion: """
      skerry get pods -o wide
      skerry get pods,deployments -A
      skerry get deployment/web -o yaml
      skerry get pods -l app=web -w
      """)
  @OptionGroup var globals: GlobalOptions
  @OptionGroup var listing: ListingOptions
  @Flag(name: [.customShort("w"), .long], help: "Go on with every change.") var watch = false
  @Flag(name: .long, help: "Only the changes, not what is there now.") var watchOnly = false
  @Flag(name: .long, help: "With -w: a column that says what happened.") var outputWatchEvents = false
  @Flag(name: .long, help: "Objects that are not there are no error.") var ignoreNotFound = false
  @Argument(help: "TYPE[,TYPE] [NAME…] or TYPE/NAME….") var resources: [String]

  func execute(_ environment: Environment) async throws {
    let format = try OutputFormat(listing.output)
    let targets = try ResourceArguments(resources, environment).targets
    if watch || watchOnly {
      guard targets.count == 1, let kind = environment.registry[resource: targets[0].resource] else {
        throw SkerryError(.invalidArgument, "a watch is of one kind, or of one object")
      }
      let watcher = ObjectWatcher(
        kind: kind, name: targets[0].name, listing: listing, format: format, withEvents: outputWatchEvents,
        environment: environment)
      return try await watcher.run(initial: !watchOnly)
    }
    var found: [(kind: Kind, objects: [Object])] = []
    for target in targets {
      guard let kind = environment.registry[resource: target.resource] else { continue }
      let objects = try await fetch(kind, target.name, environment)
      if found.last?.kind.resource == kind.resource {
        found[found.count - 1].objects += objects
      } else {
        found.append((kind, objects))
      }
    }
    let isSingle = targets.count == 1 && targets[0].name != nil
    var presentation = Presentation(listing: listing, format: format, environment: environment)
    if format == .wide, found.contains(where: { $0.kind.resource == Node.resource }) {
      presentation.nodes = await NodeColumns(environment)
    }
    try presentation.show(found, isSingle: isSingle)
  }

  @LoopActor private func fetch(_ kind: Kind, _ name: String?, _ environment: Environment) async throws -> [Object] {
    guard let name else {
      let namespace = listing.allNamespaces ? "" : environment.namespace(of: kind)
      return try await environment.listAll(
        kind, namespace: namespace, labels: listing.selector, fields: listing.fieldSelector
      ).objects
    }
    guard !listing.allNamespaces || !kind.isNamespaced else {
      throw SkerryError(.invalidArgument, "an object is in one namespace: leave -A or the name out")
    }
    do {
      return [try await environment.get(environment.reference(kind, name))]
    } catch let error as APIError where error.reason == .notFound && ignoreNotFound {
      return []
    }
  }
}

struct Watch: ClusterCommand {
  static let configuration = CommandConfiguration(abstract: "Print objects and every change, with what happened.")
  @OptionGroup var globals: GlobalOptions
  @OptionGroup var listing: ListingOptions
  @Argument(help: "TYPE [NAME] or TYPE/NAME.") var resources: [String]

  func execute(_ environment: Environment) async throws {
    let targets = try ResourceArguments(resources, environment).targets
    guard targets.count == 1, let kind = environment.registry[resource: targets[0].resource] else {
      throw SkerryError(.invalidArgument, "a watch is of one kind, or of one object")
    }
    let watcher = ObjectWatcher(
      kind: kind, name: targets[0].name, listing: listing, format: try OutputFormat(listing.output), withEvents: true,
      environment: environment)
    try await watcher.run(initial: true)
  }
}

/// Prints what `get` found.
@LoopActor struct Presentation {
  let listing: ListingOptions
  let format: OutputFormat
  let environment: Environment
  /// Further columns of nodes.
  var nodes: NodeColumns?

  func show(_ found: [(kind: Kind, objects: [Object])], isSingle: Bool) throws {
    let all = found.flatMap(\.objects)
    switch format {
    case .json, .yaml:
      let value: Value =
        isSingle && all.count == 1
        ? all[0].value
        : ["apiVersion": "v1", "kind": "List", "metadata": [:], "items": .array(all.map(\.value))]
      environment.console.printText(format == .json ? value.prettyJSON : YAMLPrinter.print(value))
    case .name:
      for (kind, objects) in found {
        for object in objects { environment.console.print("\(kind.displayPrefix)/\(object.name)") }
      }
    case .table, .wide: tables(found, isEmpty: all.isEmpty)
    }
  }

  private func tables(_ found: [(kind: Kind, objects: [Object])], isEmpty: Bool) {
    if isEmpty {
      let isNamespaced = found.contains { $0.kind.isNamespaced } && !listing.allNamespaces
      return environment.console.note(
        isNamespaced ? "No resources found in \(environment.namespace()) namespace." : "No resources found")
    }
    let filled = found.filter { !$0.objects.isEmpty }
    for (index, (kind, objects)) in filled.enumerated() {
      if index > 0 { environment.console.print("") }
      var table = ObjectTable(
        kind: kind, isWide: format == .wide, withNamespace: listing.allNamespaces, withLabels: listing.showLabels,
        withKind: found.count > 1)
      table.table.rows = objects.map { table.row($0, now: environment.now) }
      if kind.resource == Node.resource, let nodes {
        table.append(NodeColumns.headers, objects.map { nodes.cells($0.name) })
      }
      environment.console.printText(table.table.text(withHeader: !listing.noHeaders))
    }
  }
}
