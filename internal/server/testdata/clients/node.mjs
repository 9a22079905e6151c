// Usage: node node.mjs DIRECTORY ADDRESS CONDUCTOR [protobuf]; the directory has node_modules.
import { createRequire } from 'node:module';
import { report } from './scenario.mjs';

const [directory, address, conductor] = process.argv.slice(2);
const require = createRequire(directory + '/');
await report({
  Centrifuge: require(process.argv[5] ? 'centrifuge/build/protobuf' : 'centrifuge').Centrifuge,
  WebSocket: require('ws'),
  address,
  conductor,
});
process.exit(0);
