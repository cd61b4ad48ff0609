import DeviceCore

DeviceCoreProcess.run()
