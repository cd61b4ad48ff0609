import API
import APIServer
import Base
import Identity
import ObjectModel
import Sync
import Wire

/// The API's calls that the hub answers in the cloud: readings, tokens, nodes' identities, client certificates.
@LoopActor package enum HubCalls {
  /// Lifetime of a token that asks for none.
  static let tokenLifetime: Int64 = 24 * 3600
  static let maxTokenLifetime: Int64 = 30 * 86_400

  package static func register(on server: APIServer, directory: NodeDirectory, readings: ReadingsStore, hub: CloudHub) {
    server.register(subresource: "links", of: "nodes") { (_, _, _, _) async throws(APIError) in
      var nodes: Value = [:]
      for (node, report) in hub.linkReport() { nodes[node] = report }
      return ["nodes": nodes]
    }
    server.register(subresource: "readings", of: Device.resource) {
      (reference, options, _, _) async throws(APIError) in
      try page(readings, reference, options)
    }
    server.register(subresource: "create", of: "tokens") { (_, options, _, _) async throws(APIError) in
      try await createToken(directory, options)
    }
    server.register(subresource: "list", of: "tokens") { (_, _, _, _) async throws(APIError) in
      ["items": .array(directory.tokenRecords.map(shown))]
    }
    server.register(subresource: "delete", of: "tokens") { (reference, _, _, _) async throws(APIError) in
      try await api { () async throws(CallError) in try await directory.deleteToken(reference.name) }
      return [:]
    }
    server.register(subresource: "revoke", of: "nodes") { (reference, _, _, _) async throws(APIError) in
      try await api { () async throws(CallError) in try await directory.revoke(reference.name) }
      return [:]
    }
    server.register(subresource: "approve", of: "nodes") { (reference, _, _, _) async throws(APIError) in
      try await api { () async throws(CallError) in try await directory.approve(reference.name) }
      return [:]
    }
    server.register(subresource: "revoke", of: "clients") { (reference, _, _, caller) async throws(APIError) in
      guard reference.name != caller.user else {
        throw APIError(.badRequest, "this would lock you out yourself: let another administrator do it")
      }
      try await api { () async throws(CallError) in try await directory.revokeClient(reference.name) }
      return [:]
    }
    server.register(subresource: "create", of: "clients") { (reference, options, _, _) async throws(APIError) in
      let lifetime = options["lifetimeSeconds"].int.map { Duration.seconds($0) } ?? NodeDirectory.clientLifetime
      return try await api { () async throws(CallError) in
        try directory.issueClient(
          name: reference.name, role: options["role"].string ?? "", csrPEM: options["csr"].string ?? "",
          lifetime: lifetime)
      }
    }
  }

  private static func api<R: Sendable>(_ body: () async throws(CallError) -> R) async throws(APIError) -> R {
    do throws(CallError) { return try await body() } catch {
      throw APIError(APIError.Reason(rawValue: error.reason) ?? .internalError, error.message, details: error.details)
    }
  }

  private static func page(_ store: ReadingsStore, _ reference: ObjectReference, _ options: Value) throws(APIError)
    -> Value
  {
    let limit = min(max(1, options["limit"].int ?? 100), ConnectCall.maxReadings)
    do throws(SkerryError) {
      let after = options["after"].int.map { UInt64(clamping: $0) }
      let device = "\(reference.namespace)/\(reference.name)"
      let page = try store.page(
        device: device, property: options["property"].string, after: after,
        limit: Int(limit))
      let items = page.map { reading -> Value in
        [
          "number": .int(Int64(clamping: reading.number)), "property": .string(reading.property),
          "type": .string(reading.type), "value": .string(reading.value), "quality": .string(reading.quality),
          "time": .int(reading.time),
        ]
      }
      let isFull = page.count == limit
      let first = after ?? (isFull ? page.first.map { $0.number - 1 } ?? 0 : 0)
      let gaps = try store.gaps(device: device, after: first, through: isFull ? page.last?.number ?? .max : .max)
      var answer: Value = ["items": .array(items), "next": .int(Int64(clamping: page.last?.number ?? after ?? 0))]
      if !gaps.isEmpty { answer["gaps"] = .array(gaps.map(shown)) }
      return answer
    } catch {
      throw APIError(.internalError, "the readings of \(reference.name) cannot be read: \(error)")
    }
  }

  private static func shown(_ gap: ReadingsStore.Gap) -> Value {
    func number(_ value: UInt64) -> Value { .int(Int64(clamping: value)) }
    return [
      "id": number(gap.id), "after": number(gap.place), "node": .string(gap.node), "from": number(gap.from),
      "to": number(gap.to), "count": number(gap.count),
    ]
  }

  private static func createToken(_ directory: NodeDirectory, _ options: Value) async throws(APIError) -> Value {
    let lifetime = options["lifetimeSeconds"].int ?? tokenLifetime
    guard (1...maxTokenLifetime).contains(lifetime) else {
      throw APIError(.badRequest, "a token lives from 1 s to \(maxTokenLifetime) s, not \(lifetime) s")
    }
    var made = try await api { () async throws(CallError) in
      try await directory.createToken(
        lifetime: .seconds(lifetime), uses: options["uses"].int ?? 1, node: options["node"].string)
    }
    made["expires"] = .string(Timestamp.format(WallTime(seconds: made["expires"].int ?? 0)))
    return made
  }

  private static func shown(_ record: JoinTokenRecord) -> Value {
    var value: Value = [
      "id": .string(record.id), "created": .string(Timestamp.format(record.created)),
      "expires": .string(Timestamp.format(record.expires)), "usesLeft": .int(record.usesLeft),
    ]
    if let node = record.node { value["node"] = .string(node) }
    return value
  }
}
