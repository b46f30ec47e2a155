# Makes the fixtures of this folder. Needs numpy and Pillow.
import os

import numpy as np
from PIL import Image
out = os.path.dirname(os.path.abspath(__file__))
os.makedirs(out+'/images',exist_ok=True)
# array of dicts at each pickle protocol, as numpy.save writes it
samples=[{'image_id':f'{i:02d}.jpg','captions':[f'caption {i} of many','Übersicht "zwei"'][:1+i%2]} for i in range(6)]
a=np.array(samples,dtype=object)
import pickle
from numpy.lib import format as f
for p in (2,3,4,5):
    with open(f'{out}/cc3m_protocol{p}.npy','wb') as h:
        f.write_array_header_1_0(h,{'descr':'|O','fortran_order':False,'shape':a.shape})
        pickle.dump(a,h,protocol=p)
np.save(f'{out}/cc12m.npy',np.array([{'image_name':np.str_(s['image_id']),'image_id':np.int64(i),'captions':tuple(s['captions'])} for i,s in enumerate(samples)],dtype=object),allow_pickle=True)
np.save(f'{out}/numbers.npy',np.arange(4))
class Evil:
    def __reduce__(self): return (os.system,('true',))
np.save(f'{out}/dangerous.npy',np.array([{'image_id':Evil(),'captions':['x']}],dtype=object),allow_pickle=True)
rng=np.random.default_rng(0)
for i in range(6):
    base=rng.integers(0,255,(5,6,3),dtype=np.uint8)
    Image.fromarray(base).resize((64,48),Image.BICUBIC).save(f'{out}/images/{i:02d}.jpg',quality=80)
