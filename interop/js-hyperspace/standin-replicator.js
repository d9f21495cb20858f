'use strict'
module.exports = require('./standin-drive.js').Replicator
