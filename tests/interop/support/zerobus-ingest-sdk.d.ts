// What docs/migrating.md uses of the official Zerobus SDK for TypeScript, whose package has no types in the registry:
// written by hand from its documentation. tests/interop/migrating.test.ts runs the program, so a name that is not the
// SDK's own is found.

export declare enum ArrowDataType {
  Int32,
  Float64,
}

export declare class ZerobusSdk {
  constructor(zerobusEndpoint: string, unityCatalogUrl: string);
  createArrowStream(
    tableProperties: {
      tableName: string;
      schemaFields: { name: string; dataType: ArrowDataType; nullable?: boolean }[];
    },
    clientId: string,
    clientSecret: string,
    options?: { maxInflightBatches?: number; recovery?: boolean },
  ): Promise<ZerobusArrowStream>;
}

export declare class ZerobusArrowStream {
  ingestBatch(ipcBuffer: Buffer): Promise<bigint>;
  waitForOffset(offsetId: bigint): Promise<void>;
  flush(): Promise<void>;
  close(): Promise<void>;
}
