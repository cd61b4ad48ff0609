import API
import Base
import Sync
import Wire

/// The CBOR decoder, and everything that reads messages out of what it decodes. Whatever is accepted has one
/// spelling: it encodes to the bytes it came from.
func attack(_ input: Bytes) {
  if let value = try? CBOR.decode(input) {
    precondition(CBOR.encode(value) == input, "an accepted encoding is not the deterministic one")
    precondition((try? CBOR.skip(input)) == input.count, "skip ends elsewhere")
    readParams(value)
  }
  readPayloads(input)
  readItems(input)
  readSync(input)
}

private func readParams(_ value: Value) {
  if let options = try? ListOptions(params: value) { _ = options.params }
  if let options = try? WatchOptions(params: value) { _ = options.params }
  if let message = try? ConnectMessage(params: value) { _ = message.params }
  _ = try? BatchMessage.items(value)
  for method in [CallMethod.create, CallMethod.update, CallMethod.patch, CallMethod.delete] {
    if let item = try? BatchItem(method: method, params: value) { _ = item.params }
  }
}

private func readPayloads(_ input: Bytes) {
  _ = try? Hello(input)
  _ = try? Welcome(input)
  _ = try? GoAway(input)
  if let open = try? OpenMessage(input) {
    precondition((try? OpenMessage(open.encoded)) == open, "OPEN does not survive")
  }
  if let end = try? EndMessage(input) {
    precondition((try? EndMessage(end.encoded))?.outcome == end.outcome, "END does not survive")
  }
}

private func readItems(_ input: Bytes) {
  if let event = try? ItemMessage.event(input, resource: "pods"), event.object != nil {
    precondition(ItemMessage.encode(event) == input, "an item does not survive")
  }
  _ = try? ItemMessage.object(input, resource: "pods")
  _ = try? CBOR.member("metadata", of: input)
  _ = ExecMessage(input)
}

private func readSync(_ input: Bytes) {
  if let message = try? SliceMessage.decode(input) {
    precondition((try? SliceMessage.decode(message.encode())) == message, "a slice message does not survive")
  }
  _ = try? LaneMessage.decode(input)
  _ = try? LanePayload.decode(input)
}
